// The runs behind each number, filtered and sorted tables, light and dark. What records say is only ever set as text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("panel");
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, ...inside) {
  return filled(document.createElement(name), attributes, inside);
}

function draw(name, attributes, ...inside) {
  return filled(document.createElementNS(SVG, name), attributes, inside);
}

function filled(element, attributes, inside) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

// Runs come as values without names; their cells hold what the seeds of a cell share.
function unpacked([cell, seed, state, why, file, date, errors, best, curve, cost, where]) {
  const [title, folder, command, several, settings] = data.cells[cell];
  return {
    title, seed, state, why, several, date, errors, best, curve,
    path: `${folder}/${file}`,
    command: `${command} ${seed} --rerun all --results again`,
    settings: Object.assign({}, ...settings.map((number) => data.settings[number])),
    cost: cost?.length ? Object.fromEntries(cost.map((value, number) => [data.cost[number], value])) : undefined,
    where: data.where[where],
  };
}

// The runs of a small page are in it; those of a large one are scripts beside it, each loaded when it is needed.

const runs = data.runs ?? [];
const parts = new Map();

function addRuns(made, first, rows) {
  if (made === data.made) rows.forEach((row, number) => { runs[first + number] = row; });
}

function part(number) {
  const file = `page-runs/${number}.js`;
  if (!parts.has(file))
    parts.set(file, new Promise((resolve, reject) => {
      const script = make("script", { src: file });
      const absent = () => reject(new Error(`${file} is not there, or not of this page. Copy the page with its whole folder, or reload it.`));
      script.addEventListener("load", () => (runs[number * data.part] ? resolve() : absent()));
      script.addEventListener("error", absent);
      document.head.append(script);
    }));
  return parts.get(file);
}

async function loaded(numbers) {
  const absent = numbers.filter((number) => !runs[number]).map((number) => Math.floor(number / data.part));
  await Promise.all([...new Set(absent)].map(part));
  return numbers.map((number) => unpacked(runs[number]));
}

// A list of runs comes as the first number and the length of each range.
function numbersOf(ranges) {
  const numbers = [];
  for (let at = 0; at < ranges.length; at += 2)
    for (let number = ranges[at]; number < ranges[at] + ranges[at + 1]; number++) numbers.push(number);
  return numbers;
}

// Filters: what is pressed stays; of a kind of which nothing is pressed, all stays.

const filters = document.getElementById("filters");

function filter() {
  const pressed = { m: new Set(), d: new Set(), e: new Set() };
  for (const chip of filters.querySelectorAll('[aria-pressed="true"]')) pressed[chip.dataset.kind].add(chip.dataset.value);
  const stays = (element) =>
    ["m", "d"].every((kind) => !pressed[kind].size || !element.dataset[kind] ||
      element.dataset[kind].split(" ").some((number) => pressed[kind].has(number)));
  for (const table of document.querySelectorAll("table.numbers")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const errors = heads.filter((head) => pressed.e.has(head.textContent));
    const kept = heads.map((head, column) => !column || (stays(head) && (!errors.length || errors.includes(head))));
    for (const row of [...table.tBodies[0].rows, ...(table.tFoot?.rows ?? [])]) row.hidden = !stays(row);
    for (const row of table.rows) if (!row.matches(".groups")) [...row.cells].forEach((cell, column) => { cell.hidden = !kept[column]; });
    let first = 1;
    for (const group of table.querySelectorAll(".groups th")) {
      group.dataset.span ??= group.colSpan;
      const span = Number(group.dataset.span);
      const visible = kept.slice(first, first + span).filter(Boolean).length;
      group.hidden = !visible;
      group.colSpan = visible || span;
      first += span;
    }
  }
}

// Sorting: ascending, descending, as it was. Holes are last either way.

const words = new Intl.Collator("en", { numeric: true });
const unsorted = new Map();
for (const table of document.querySelectorAll("table.numbers")) unsorted.set(table, [...table.tBodies[0].rows]);

function sort(head) {
  const table = head.closest("table");
  const order = { null: "ascending", ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  const rows = [...unsorted.get(table)];
  if (order) {
    head.setAttribute("aria-sort", order);
    rows.sort(comparison(head.cellIndex, order === "ascending" ? 1 : -1));
  }
  table.classList.toggle("sorted", order !== null);
  table.tBodies[0].append(...rows);
}

function comparison(column, sign) {
  if (column === 0) return (a, b) => sign * words.compare(a.cells[0].textContent, b.cells[0].textContent);
  const value = (row) => Number(row.cells[column].dataset.value ?? NaN);
  return (a, b) => Number.isNaN(value(a)) - Number.isNaN(value(b)) || sign * (value(a) - value(b)) || 0;
}

// The panel: the runs behind the number that was chosen, made when it opens.

const SHOWN = 100; // runs that the panel shows at once

function open(link) {
  const [ranges, states] = data.lists[link.dataset.runs];
  const numbers = numbersOf(ranges);
  const counts = Object.entries(data.states)
    .filter(([state]) => states[state])
    .map(([state, word]) => `${states[state]} ${word}`);
  panel.querySelector("h2").textContent = titleOf(link);
  panel.querySelector(".value").textContent =
    `${link.closest(".numbers") ? `${link.textContent.trim()} · ` : ""}${numbers.length === 1 ? "1 run" : `${numbers.length} runs`}: ${counts.join(", ")}`;
  const list = panel.querySelector(".runs");
  list.replaceChildren();
  list.opened = {};
  showMore(list, numbers, list.opened);
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  history.replaceState(null, "", `#${link.id}`);
  panel.addEventListener("close", () => link.focus({ preventScroll: true }), { once: true });
}

// Appends some runs, and a button for more; nothing if a number was opened meanwhile.
async function showMore(list, numbers, opened) {
  let added;
  try {
    added = (await loaded(numbers.slice(0, SHOWN))).map(shown);
  } catch (error) {
    added = [make("p", { class: "why" }, error.message)];
    parts.clear();
  }
  if (list.opened !== opened) return;
  list.append(...added);
  const rest = numbers.slice(SHOWN);
  if (!rest.length) return;
  const more = make("button", { type: "button", class: "more" }, `Show more of ${rest.length} runs`);
  more.addEventListener("click", () => { more.remove(); showMore(list, rest, opened); });
  list.append(more);
}

function titleOf(link) {
  const claim = link.closest(".claim");
  if (claim) return claim.querySelector(".text").textContent;
  const cell = link.closest("td");
  const table = cell.closest("table");
  if (!table.matches(".numbers")) return link.textContent;
  const column = table.tHead.rows[table.tHead.rows.length - 1].cells[cell.cellIndex];
  return `${cell.parentElement.cells[0].textContent} · ${column.dataset.title}`;
}

function shown(run) {
  const recorded = run.state !== "missing";
  const record = recorded
    ? make("a", { href: `${data.results}/${encodeURI(run.path)}` }, "record")
    : make("span", { class: "quiet" }, "no record");
  const line = make(
    "div",
    { class: "line" },
    make("h3", {}, run.title),
    make("span", {}, `seed ${run.seed}`),
    make("span", { class: `state ${run.state}` }, data.states[run.state]),
    make("span", { class: "errors" }, ...(run.errors ?? []).map((each) => errorsOf(each, run.errors.length > 1))),
    make("span", { class: "curve" }, ...curveOf(run)),
    record,
  );
  const why = run.state === "failed" || run.state === "refused" ? [make("p", { class: "why" }, run.why)] : [];
  return make("article", { class: "run" }, line, ...why, detailsOf(run));
}

function errorsOf([dataset, mse, mae], named) {
  return make("span", {}, `${named ? `${dataset}: ` : ""}MSE ${mse.toFixed(4)}  MAE ${mae.toFixed(4)}`);
}

// The validation losses of some epochs, the best one marked.
function curveOf(run) {
  const [epochs, losses] = run.curve ?? [[], []];
  if (!epochs.length) return run.state === "done" ? [make("span", { class: "quiet" }, "nothing trained")] : [];
  const [width, height, rim, last] = [110, 26, 3, epochs.at(-1)];
  const [least, most] = [Math.min(...losses), Math.max(...losses)];
  const points = losses.map((loss, number) => [
    rim + ((width - 2 * rim) * (epochs[number] - 1)) / Math.max(1, last - 1),
    rim + ((height - 2 * rim) * (most - loss)) / (most - least || 1),
  ]);
  const words = `validation loss over ${last} epochs: first ${losses[0]}, least ${least}`;
  const drawn = draw(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words },
    draw("polyline", { points: points.map((point) => point.map((each) => each.toFixed(1)).join()).join(" ") }),
  );
  const best = points[epochs.indexOf(run.best)];
  if (best) drawn.append(draw("circle", { cx: best[0], cy: best[1], r: 2.5 }));
  return [drawn, make("small", {}, run.best ? `best epoch ${run.best} of ${last}` : `${last} epochs`)];
}

function detailsOf(run) {
  const details = make("details", {}, make("summary", {}, "Settings, cost, provenance, command"));
  details.addEventListener("toggle", () => details.append(...moreOf(run)), { once: true });
  return details;
}

function moreOf(run) {
  const { task, options, train, ...rest } = run.settings;
  const windows = Object.fromEntries((run.errors ?? []).map(([dataset, , , count]) => [dataset, count]));
  const parts = {
    Task: run.errors ? { ...task, "test windows": windows } : task,
    Options: options,
    Training: { ...train, ...rest },
    Cost: run.cost,
    Provenance: run.date && { date: run.date, ...run.where },
  };
  const lists = Object.entries(parts)
    .filter(([, values]) => values && Object.keys(values).length)
    .map(([title, values]) => make("section", {}, make("h4", {}, title), listOf(values)));
  return [...lists, commandOf(run)];
}

function listOf(values) {
  const lines = Object.entries(values).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, textOf(value))),
  );
  return make("dl", {}, ...lines);
}

function textOf(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.map(textOf).join(", ") || "none";
  if (typeof value === "object")
    return Object.entries(value).map(([name, each]) => `${name} ${textOf(each)}`).join(", ") || "none";
  return String(value);
}

function commandOf(run) {
  const code = make("code", {}, run.command);
  const copy = make("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => copied(code, copy));
  const more = [];
  if (run.several) more.push("It repeats every variant and share of the windows that the suite has of this model.");
  if (data.unnamed) more.push("--suite takes the path of the suite's file in place of its name.");
  return make("section", {}, make("h4", {}, "Repeat it"), make("p", { class: "command" }, code, copy), make("p", {}, more.join(" ")));
}

async function copied(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
}

// An address that names a number opens its runs; one that names a note shows it.
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.dataset.runs) open(target);
  const long = target?.matches(".table") && target.querySelector("details.long");
  if (long) long.open = true;
  for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  if (target && !target.dataset.runs) target.scrollIntoView(); // the browser's own came before its fold was open
}

// Light or dark: as the system says, until the button is used.

const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  theme.textContent = isDark() ? "Light" : "Dark";
}

function remembered(name) {
  try {
    if (name) localStorage.setItem("theme", name);
    return localStorage.getItem("theme");
  } catch {
    return name; // a browser may refuse storage to files
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-runs]");
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey);
  if (link && plain) {
    event.preventDefault();
    open(link);
  }
  const head = event.target.closest("table.numbers th button")?.closest("th");
  if (head) sort(head);
  const chip = event.target.closest("#filters button");
  if (chip) {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    filter();
  }
  if (event.target === panel || event.target.closest("#panel .close")) panel.close();
});
panel.addEventListener("close", () => history.replaceState(null, "", location.href.split("#")[0]));
for (const link of document.querySelectorAll("a[data-runs]")) link.setAttribute("aria-haspopup", "dialog");
theme.hidden = false;
if (filters) filters.hidden = false;
theme.addEventListener("click", () => setTheme(remembered(isDark() ? "light" : "dark")));
system.addEventListener("change", () => setTheme());
setTheme(remembered());
addEventListener("hashchange", follow);
follow();
