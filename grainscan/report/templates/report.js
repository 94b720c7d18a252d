"use strict";
// The page's data: see `page.py`. Only the rows in sight are in the document, so that 20,000 files scroll as 20 do.
const data = JSON.parse(document.getElementById("data").textContent);
const { tasks, files, folders, videos } = data;
const single = tasks.length === 1;
const strong = tasks.some((task) => task.unit);
const BINS = 20; // of a histogram
const CLEAN = [0x5b, 0x93, 0x8f], DOUBT = [0xe3, 0xb3, 0x41], FOUND = [0xcf, 0x44, 0x1f]; // colours of probabilities
const EXTRA = 8; // rows drawn above and below those in sight
const phone = window.matchMedia("(max-width: 760px)");

const view = {
  artifact: data.artifact ?? -1, show: "all", text: "", key: data.order, down: data.order !== "name", list: [], version: 0,
};
const thresholds = tasks.map((task) => task.threshold);
const moved = tasks.map(() => false); // whether the slider of a task has been used

const $ = (id) => document.getElementById(id);
const paths = files.map((file) => (folders[file.d] ?? "") + file.n);
const lower = paths.map((path) => path.toLowerCase());
const number = (value) => value.toLocaleString("en");

// ---------------------------------------------------------------------------------------------------------- verdicts

const thresholdOf = (file, t) => (moved[t] ? thresholds[t] : file.h?.[t] ?? thresholds[t]);
const judged = (file, t) => file.p !== undefined && file.p[t] !== null;

// By task and file: how far the probability is above (0 to 1, found) or below (-1 to 0) its threshold; -2 if not judged.
const margins = tasks.map(() => new Float64Array(files.length));
const margin = (file, t) => margins[t][file.i];
const has = (file, t) => margins[t][file.i] >= 0;

function measure(t) {
  files.forEach((file, i) => {
    file.i = i;
    margins[t][i] = -2;
    if (!judged(file, t)) return;
    const p = file.p[t], threshold = thresholdOf(file, t);
    const found = moved[t] ? p >= threshold && !file.x?.includes(t) : file.l?.includes(t) ?? false;
    if (found) margins[t][i] = threshold < 1 ? Math.max(0, p - threshold) / (1 - threshold) : 0;
    else margins[t][i] = threshold > 0 ? Math.min(-1e-9, (p - threshold) / threshold) : -1e-9;
  });
}

const wanted = () => (view.artifact < 0 ? tasks.map((_, t) => t) : [view.artifact]);

/** The judged ones of the wanted tasks, the worst first. */
function ranked(file, among = wanted()) {
  return among.filter((t) => judged(file, t)).sort((a, b) => margin(file, b) - margin(file, a));
}

// The worst of the wanted tasks by file; -1 if none was judged. Found anew when a threshold or the artifact changes.
const worst = new Int16Array(files.length);

function findWorst() {
  worst.fill(-1);
  for (const t of wanted()) {
    const values = margins[t];
    for (let i = 0; i < files.length; i++) {
      if (values[i] > -2 && (worst[i] < 0 || values[i] > margins[worst[i]][i])) worst[i] = t;
    }
  }
}

function stateOf(file) {
  if (file.e) return "error";
  return worst[file.i] >= 0 && has(file, worst[file.i]) ? "found" : "clean";
}

/** Seconds at which a task is worst; -1 if unknown. */
const worstTime = (file, t) => file.o?.[t] ?? -1;

// ------------------------------------------------------------------------------------------------------------- words

function clock(seconds) {
  const tenths = Math.round(seconds * 10), pad = (value) => String(value).padStart(2, "0");
  if (tenths >= 36000) {
    const whole = Math.floor(tenths / 10);
    return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  }
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

/** As `timecode` of the package; empty if the frame rate is unknown or no usual one. */
function timecode(file, seconds) {
  const fps = videos[file.v]?.[2];
  const rate = Math.round(fps ?? 0);
  if (rate < 1 || rate > 120 || ![rate, rate / 1.001].some((usual) => Math.abs(fps - usual) <= 1e-3 * usual)) return "";
  const count = Math.round(seconds * fps), whole = Math.floor(count / rate);
  return [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60, count % rate]
    .map((value) => String(value).padStart(2, "0")).join(":");
}

const moment = (file, seconds) => timecode(file, seconds) || clock(seconds);

function videoOf(file) {
  const [width, height, fps, codec] = videos[file.v] ?? [];
  return [
    [width ? `${width}×${height}` : "", codec ?? ""].filter(Boolean).join(" "),
    [fps ? `${+fps.toFixed(3)} fps` : "", file.t ? clock(file.t) : ""].filter(Boolean).join(", "),
  ];
}

// ----------------------------------------------------------------------------------------------------------- drawing

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "role") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function rgb(p, threshold) {
  const below = p < threshold;
  const part = below ? (p / threshold) ** 2 : threshold < 1 ? ((p - threshold) / (1 - threshold)) ** 0.5 : 1;
  const [low, high] = below ? [CLEAN, DOUBT] : [DOUBT, FOUND];
  return low.map((value, k) => Math.round(value + (high[k] - value) * part));
}

const colour = (p, threshold) => `rgb(${rgb(p, threshold).join(" ")})`;

function timeline(file, t, height, label) {
  const width = 240, threshold = thresholdOf(file, t), values = file.q?.[t];
  const events = (file.a ?? []).filter((each) => each[0] === t);
  if (!values && !events.length) return null;
  const length = Math.max(file.t ?? 0, ...(file.w ?? []), ...events.map((each) => each[2]), 1e-3);
  const drawn = svg("svg", { class: "time", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  drawn.append(svg("rect", { width, height, rx: 2, fill: "var(--track)" }));
  const place = (start, end, least) => {
    const wide = Math.min(width, Math.max(least, ((end - start) / length) * width));
    return { x: Math.min((start / length) * width, width - wide).toFixed(2), width: wide.toFixed(2) };
  };
  const title = (text) => Object.assign(svg("title"), { textContent: text });
  (values ?? []).forEach((value, k) => {
    if (value === null) return;
    const [start, end] = [file.w[2 * k], file.w[2 * k + 1]], p = value / 100, tall = Math.max(1.5, p * height);
    const bar = { ...place(start, end, (values.length > 40 ? 1 : 5)), y: height - tall, height: tall, fill: colour(p, threshold) };
    drawn.append(svg("rect", bar, title(`${moment(file, start)}–${moment(file, end)}: ${p.toFixed(2)}`)));
  });
  drawn.append(svg("path", { d: `M0 ${height * (1 - threshold)}H${width}`, stroke: "var(--faint)", "stroke-dasharray": "3 3", "stroke-width": 1, "vector-effect": "non-scaling-stroke" }));
  for (const [, start, end, p] of events) {
    drawn.append(svg("rect", { ...place(start, end, 2), y: 0, height, fill: colour(p, threshold), class: "event" }, title(`${moment(file, start)}–${moment(file, end)}: ${p.toFixed(2)}`)));
  }
  return drawn;
}

/** The probabilities of the views, interpolated over the picture, and the views themselves. */
function heatMap(file, t) {
  const [width, height] = videos[file.v] ?? [], values = file.m?.q[t];
  if (!width || !values) return null;
  const threshold = thresholdOf(file, t), places = new Map();
  values.forEach((value, k) => {
    if (value === null) return;
    const place = file.m.b.slice(3 * k, 3 * k + 3), key = place.join();
    if (!places.has(key)) places.set(key, { place, sum: 0, count: 0 });
    const each = places.get(key);
    each.sum += value / 100;
    each.count += 1;
  });
  const boxes = [...places.values()].map(({ place: [x, y, size], sum, count }) => ({ x, y, size, p: sum / count }));
  const columns = 32, rows = Math.min(96, Math.max(1, Math.round((columns * height) / width)));
  const canvas = el("canvas", { width: columns, height: rows }), context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows), reach = ((0.09 * width) / 3) ** 2;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0, total = 0;
      for (const { x, y, size, p } of boxes) {
        const dx = ((column + 0.5) * width) / columns - x - size / 2, dy = ((row + 0.5) * height) / rows - y - size / 2;
        const weight = 1 / (dx * dx + dy * dy + reach) ** 2;
        sum += weight * p;
        total += weight;
      }
      picture.data.set([...rgb(sum / total, threshold), 255], 4 * (row * columns + column));
    }
  }
  context.putImageData(picture, 0, 0);
  const over = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  for (const { x, y, size, p } of boxes) {
    const box = { x, y, width: size, height: size, fill: colour(p, threshold), stroke: "#fff", "stroke-opacity": 0.75, "vector-effect": "non-scaling-stroke" };
    over.append(svg("rect", box, Object.assign(svg("title"), { textContent: p.toFixed(2) })));
  }
  const made = el("div", { className: "map", role: "img" }, photo(file, "under"), canvas, over);
  made.classList.toggle("over", Boolean(file.y));
  made.setAttribute("aria-label", `Where in the picture: ${tasks[t].title}`);
  made.style.aspectRatio = `${width} / ${height}`;
  return made;
}

const jpeg = (text) => `data:image/jpeg;base64,${text}`;

/** The thumbnail of a file, if the page has one; it says nothing that the text beside it does not. */
function photo(file, name) {
  return file.y ? el("img", { className: name, src: jpeg(file.y.t), alt: "", decoding: "async" }) : null;
}

/** The views with the highest and the lowest probability at 100 %, as they are and with all contrast that there is. */
function cropsOf(file, t) {
  const crops = (file.y?.c ?? []).filter(([task]) => task === t);
  if (!crops.length) return null;
  return el("div", { className: "crops" }, ...crops.map(([, percent, plain, stretched]) => {
    const text = `view with ${(percent / 100).toFixed(2)}`;
    return el("figure", {},
      el("img", { src: jpeg(plain), alt: `${text}, at 100 %` }),
      el("img", { src: jpeg(stretched), alt: `${text}, contrast stretched` }),
      el("figcaption", { textContent: `${text}, at 100 %; right: contrast stretched` }));
  }));
}

function meter(p, threshold) {
  const part = svg("rect", { width: 100 * p, height: 1, fill: colour(p, threshold) });
  return el("span", { className: "meter" }, svg("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": true }, part));
}

const word = (t, found) => (found ? tasks[t].found : tasks[t].absent) + (tasks[t].experimental ? "*" : "");

// ------------------------------------------------------------------------------------- histograms and their sliders

const spreads = tasks.map((task, t) => {
  const bars = svg("svg", { viewBox: `0 0 ${BINS} 1`, preserveAspectRatio: "none", role: "img", "aria-label": `Number of files by probability of ${task.title}` });
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: task.threshold });
  slider.setAttribute("aria-label", `Threshold of ${task.title}`);
  const found = el("span"), value = el("output"), reset = el("button", { type: "button", className: "reset", textContent: "reset", hidden: true });
  reset.setAttribute("aria-label", `Reset the threshold of ${task.title}`);
  const bins = new Array(BINS).fill(0);
  for (const file of files) if (judged(file, t)) bins[Math.min(BINS - 1, Math.floor(file.p[t] * BINS))] += 1;
  const tallest = Math.max(1, Math.sqrt(Math.max(...bins)));
  function draw() {
    const threshold = thresholds[t], count = files.reduce((sum, file) => sum + has(file, t), 0);
    bars.replaceChildren();
    bins.forEach((size, k) => {
      if (!size) return;
      const tall = Math.sqrt(size) / tallest, title = svg("title");
      title.textContent = `${number(size)} ${size === 1 ? "file" : "files"} at ${(k / BINS).toFixed(2)}–${((k + 1) / BINS).toFixed(2)}`;
      bars.append(svg("rect", { x: k + 0.06, y: 1 - tall, width: 0.88, height: tall, fill: colour((k + 0.5) / BINS, threshold) }, title));
    });
    bars.append(svg("path", { d: `M${threshold * BINS} 0V1`, stroke: "var(--ink)", "stroke-dasharray": "3 3", "vector-effect": "non-scaling-stroke" }));
    found.textContent = `${number(count)} ${task.found}${task.experimental ? "*" : ""}`;
    value.textContent = `threshold ${+threshold.toFixed(3)}`;
    reset.hidden = !moved[t];
    return count;
  }
  slider.addEventListener("input", () => {
    thresholds[t] = Number(slider.value);
    moved[t] = true;
    relabel(t);
  });
  reset.addEventListener("click", () => {
    thresholds[t] = slider.value = task.threshold;
    moved[t] = false;
    slider.focus();
    relabel(t);
  });
  const title = el("h2", { textContent: task.title });
  $("spreads").append(el("div", { className: "spread" }, el("div", { className: "top" }, title, found), bars, slider, el("div", { className: "axis" }, el("span", { textContent: "0" }), el("span", {}, value, reset), el("span", { textContent: "1" }))));
  return draw;
});

const counts = tasks.map(() => 0); // files with each artifact

/** Everything that depends on the threshold of some tasks. */
function relabel(...changed) {
  for (const t of changed) {
    measure(t);
    counts[t] = spreads[t]();
  }
  findWorst();
  let found = 0, all = 0;
  const strengths = [];
  for (const file of files) {
    if (file.e) continue;
    all += 1;
    found += tasks.some((_, t) => has(file, t));
    if (strong) tasks.forEach((task, t) => { if (task.unit && has(file, t) && file.s?.[t] !== undefined) strengths.push(file.s[t]); });
  }
  $("found").textContent = number(found);
  $("clean").textContent = number(all - found);
  $("share").textContent = all ? `· ${Math.round((100 * found) / all)} %` : "";
  if ($("strength")) {
    strengths.sort((a, b) => a - b);
    const half = strengths.length >> 1;
    const middle = strengths.length % 2 ? strengths[half] : (strengths[half - 1] + strengths[half]) / 2;
    $("strength").textContent = strengths.length ? middle.toFixed(1) : "–";
  }
  if ($("artifact")) {
    [...$("artifact").options].forEach((option) => {
      const t = Number(option.value);
      option.textContent = t < 0 ? "any artifact" : `${tasks[t].title} (${number(counts[t])})`;
    });
  }
  arrange();
}

// ----------------------------------------------------------------------------------------------- order and selection

const COLUMNS = [
  { key: "name", title: "File", words: ["A to Z", "Z to A"] },
  { key: "worst", title: single ? "Verdict" : "Found", words: ["cleanest first", "worst first"] },
  { key: "probability", title: "Probability", words: ["lowest first", "highest first"] },
  ...(strong ? [{ key: "strength", title: "Strength", words: ["weakest first", "strongest first"] }] : []),
  { key: "time", title: "Where in time", words: ["earliest first", "latest first"] },
  { key: "length", title: "Video", words: ["shortest first", "longest first"] },
];

/** What a column is sorted by; files are in the order of their names, and unknown values are below all others. */
function keyOf(index) {
  const file = files[index];
  if (view.key === "name") return index;
  if (view.key === "length") return file.t ?? -1;
  if (file.e) return -2;
  const best = worst[index];
  if (best < 0) return -2;
  if (view.key === "worst") return margin(file, best);
  if (view.key === "probability") return file.p[best];
  if (view.key === "time") return worstTime(file, best);
  return strengthOf(file, best)?.[0] ?? -1;
}

/** The strength and its task, of the worst artifact or else of another that was found. */
function strengthOf(file, first) {
  if (!file.s) return null;
  if (file.s[first] !== undefined) return [file.s[first], first];
  const t = wanted().find((each) => file.s[each] !== undefined && has(file, each));
  return t === undefined ? null : [file.s[t], t];
}

/** Numbers of files by their keys, equal keys by number: as one number each, which sorts faster than by comparison. */
function sorted(list, keys, down) {
  let low = Infinity, high = -Infinity;
  for (const index of list) {
    low = Math.min(low, keys[index]);
    high = Math.max(high, keys[index]);
  }
  const levels = 2 ** 31 - 1, step = high > low ? levels / (high - low) : 0;
  const packed = new Float64Array(list.length);  // filled by a loop: several times as fast as `from`
  for (let k = 0; k < list.length; k++) {
    const level = Math.round((keys[list[k]] - low) * step);
    packed[k] = (down ? levels - level : level) * 2 ** 21 + list[k];
  }
  packed.sort();
  return list.map((_, k) => packed[k] % 2 ** 21);
}

function arrange() {
  const text = view.text.trim().toLowerCase();
  const list = [];
  for (let index = 0; index < files.length; index++) {
    if (text && !lower[index].includes(text)) continue;
    const file = files[index];
    if (view.show === "unreliable" ? !file.u : view.show !== "all" && stateOf(file) !== view.show) continue;
    list.push(index);
  }
  const keys = new Float64Array(files.length);
  for (const index of list) keys[index] = keyOf(index);
  view.list = sorted(list, keys, view.down);
  view.version += 1;
  $("count").textContent = list.length === files.length ? "" : `${number(list.length)} of ${number(files.length)}`;
  for (const [k, column] of COLUMNS.entries()) {
    const head = $("head").children[k];
    if (column.key === view.key) head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  $("order").value = `${view.key} ${view.down ? 1 : 0}`;
  draw();
}

// -------------------------------------------------------------------------------------------------------------- rows

const cell = (name, ...children) => el("div", { className: `cell ${name}`, role: "cell" }, ...children);

function makeRow(index) {
  const file = files[index], row = el("div", { className: "row", role: "row" });
  const open = el("button", { type: "button", className: "open", textContent: file.n, title: paths[index] });
  open.setAttribute("aria-label", paths[index]);
  open.setAttribute("aria-haspopup", "dialog");
  const place = folders[file.d] ? el("small", { className: "folder", textContent: folders[file.d], title: folders[file.d] }) : null;
  const doubt = file.u ? el("small", { className: "caution", textContent: `unreliable: ${file.u}`, title: file.u }) : null;
  const name = cell("name", photo(file, "thumbnail"), el("div", {}, ...[doubt ? null : place, open, doubt].filter(Boolean)));
  row.append(name);
  if (file.e) {
    row.append(cell("verdict", el("span", { className: "pill error", textContent: "error" })));
    row.append(cell("problem", el("span", { textContent: file.e[0], title: file.e[0] }), el("small", { textContent: file.e[1], title: file.e[1] })));
    return row;
  }
  const shown = ranked(file), found = shown.filter((t) => has(file, t)), first = shown[0];
  const pills = (found.length ? found : shown.slice(0, 1)).map((t) => {
    const label = found.length ? word(t, true) : single || view.artifact >= 0 ? word(t, false) : "clean";
    return el("span", { className: `pill ${found.length ? "found" : "clean"}`, textContent: single || !found.length ? label : `${label} ${file.p[t].toFixed(2)}` });
  });
  const most = phone.matches ? 1 : 2;
  if (pills.length > most) {
    const more = pills.splice(most);
    pills.push(el("span", { className: "pill more", textContent: `+${more.length}`, title: more.map((pill) => pill.textContent).join(" · ") }));
  }
  row.append(cell("verdict", ...pills));
  if (first === undefined) return row;
  row.append(cell("probability num", el("span", { textContent: file.p[first].toFixed(2) }), meter(file.p[first], thresholdOf(file, first))));
  if (strong) {
    const strength = strengthOf(file, first);
    row.append(cell("strength num", ...(strength ? [strength[0].toFixed(1), el("small", { textContent: tasks[strength[1]].short, title: tasks[strength[1]].unit })] : [])));
  }
  const at = worstTime(file, first);
  const text = `${tasks[first].title} over time${at < 0 ? "" : `, highest at ${moment(file, at)}`}`;
  row.append(cell("when", timeline(file, first, 30, text), at < 0 ? null : el("small", { className: "num", textContent: moment(file, at) })));
  row.append(cell("video", ...videoOf(file).map((text) => el("span", { textContent: text, title: text }))));
  return row;
}

const drawn = new Map(); // rows in the document by index of their files
let drawnVersion = -1;

function draw(all = false) {
  const body = $("rows"), height = phone.matches ? 132 : 64;
  if (drawnVersion !== view.version) {
    const focused = document.activeElement?.closest?.(".row")?.dataset.index;
    drawn.clear();
    body.replaceChildren();
    drawnVersion = view.version;
    if (focused !== undefined) requestAnimationFrame(() => drawn.get(Number(focused))?.querySelector("button")?.focus({ preventScroll: true }));
  }
  body.style.height = `${view.list.length * height}px`;
  const top = -body.getBoundingClientRect().top;
  const from = all ? 0 : Math.max(0, Math.floor(top / height) - EXTRA);
  const to = all ? view.list.length : Math.min(view.list.length, Math.ceil((top + window.innerHeight) / height) + EXTRA);
  const keep = new Set(view.list.slice(from, to));
  for (const [index, row] of drawn) {
    if (!keep.has(index) && !row.contains(document.activeElement)) {
      row.remove();
      drawn.delete(index);
    }
  }
  let after = null;
  for (let position = from; position < to; position++) {
    const index = view.list[position];
    let row = drawn.get(index);
    if (!row) {
      row = makeRow(index);
      row.dataset.index = index;
      row.setAttribute("aria-rowindex", position + 2);
      row.style.top = `${position * height}px`;
      drawn.set(index, row);
      body.insertBefore(row, after ? after.nextSibling : body.firstChild);
    }
    row.style.top = `${position * height}px`;
    after = row;
  }
  $("table").setAttribute("aria-rowcount", view.list.length + 1);
}

// ----------------------------------------------------------------------------------------------------------- details

let shownPosition = 0;

function facts(file, index) {
  const [width, height, fps, codec, form] = videos[file.v] ?? [], [windows, seconds] = file.g ?? [0, 0];
  const share = file.t ? ` (${(100 * Math.min(1, seconds / file.t)).toPrecision(2)} % of it)` : "";
  return [
    ["path", paths[index]],
    ["picture", width ? `${width} × ${height} pixels` : ""],
    ["codec", [codec, form].filter(Boolean).join(" ")],
    ["frame rate", fps ? `${+fps.toFixed(3)} frames per second` : ""],
    ["length", file.t ? clock(file.t) : ""],
    ["size", file.b ? `${(file.b / 1e6).toFixed(1)} MB` : ""],
    ["looked at", windows ? `${seconds.toFixed(1)} s${share} in ${number(windows)} ${windows === 1 ? "window" : "windows"}` : ""],
    ["views", file.k ? number(file.k) : ""],
    ["time taken", file.c !== undefined ? `${file.c.toFixed(2)} s` : ""],
    ["grain", file.r ?? ""],
    ["unreliable", file.u ?? ""],
  ].filter(([, text]) => text);
}

function taskBlock(file, t) {
  const p = file.p[t], strength = file.s?.[t], at = worstTime(file, t);
  const texts = [`probability ${p.toFixed(3)}`, `threshold ${+thresholdOf(file, t).toFixed(3)}`];
  if (strength !== undefined) texts.push(`strength ${strength.toFixed(2)} ${tasks[t].unit ?? ""}`);
  const line = timeline(file, t, 52, `${tasks[t].title} over time, in detail`);
  const length = Math.max(file.t ?? 0, ...(file.w ?? [0]));
  const events = (file.a ?? []).filter((each) => each[0] === t);
  const list = events.slice(0, 50).map(([, start, end, q]) => el("li", { className: "num", textContent: `${moment(file, start)} – ${moment(file, end)}, ${(end - start).toFixed(2)} s, probability ${q.toFixed(2)}` }));
  if (events.length > 50) list.push(el("li", { textContent: `and ${number(events.length - 50)} more` }));
  return el("section", { className: "block" },
    el("h3", {}, el("span", { className: `pill ${has(file, t) ? "found" : "clean"}`, textContent: word(t, has(file, t)) }), ` ${tasks[t].experimental ? "experimental · " : ""}${texts.join(" · ")}`),
    line,
    line ? el("div", { className: "axis" }, el("span", { textContent: timecode(file, 0) || "0:00" }), el("span", { textContent: at < 0 ? "" : `highest at ${moment(file, at)}` }), el("span", { textContent: moment(file, length) })) : null,
    list.length ? el("ul", {}, ...list) : null,
    heatMap(file, t),
    cropsOf(file, t));
}

function showDetails(position) {
  shownPosition = position;
  const index = view.list[position], file = files[index], sheet = $("sheet");
  $("details-name").textContent = file.n;
  $("previous").disabled = position === 0;
  $("next").disabled = position === view.list.length - 1;
  sheet.replaceChildren();
  if (file.e) sheet.append(el("p", { className: "problem", textContent: file.e[0] }), el("p", { textContent: file.e[1] }));
  else {
    const all = ranked(file, tasks.map((_, t) => t)), open = all.filter((t) => has(file, t) || t === view.artifact);
    const first = open.length ? open : all.slice(0, 1), rest = all.filter((t) => !first.includes(t));
    sheet.append(...first.map((t) => taskBlock(file, t)));
    if (rest.length) sheet.append(el("details", {}, el("summary", { textContent: `${rest.length} other ${rest.length === 1 ? "artifact" : "artifacts"}` }), ...rest.map((t) => taskBlock(file, t))));
  }
  const list = el("dl");
  for (const [key, text] of facts(file, index)) list.append(el("dt", { textContent: key }), el("dd", { textContent: text }));
  sheet.append(list);
  if (!$("details").open) $("details").showModal();
  sheet.scrollTop = 0;
}

// --------------------------------------------------------------------------------------------------------------- CSV

function csv() {
  const quote = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^ *[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text)) text = "'" + text; // a formula in a spreadsheet
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const heads = ["path", "status", "unreliable"];
  for (const { name } of tasks) heads.push(...["label", "probability", "threshold", "strength", "worst_start", "worst_timecode"].map((key) => `${name}_${key}`));
  heads.push("width", "height", "fps", "duration", "codec", "pix_fmt", "error_message", "error_hint");
  const lines = [heads.join()];
  for (const index of view.list) {
    const file = files[index], values = [paths[index], file.e ? "error" : "ok", file.u];
    tasks.forEach((_, t) => {
      if (!judged(file, t)) values.push("", "", "", "", "", "");
      else {
        const at = worstTime(file, t);
        values.push(Number(has(file, t)), file.p[t], thresholdOf(file, t), file.s?.[t], ...(at < 0 ? ["", ""] : [at, timecode(file, at)]));
      }
    });
    const [width, height, fps, codec, form] = videos[file.v] ?? [];
    values.push(width, height, fps, file.t, codec, form, ...(file.e ?? ["", ""]));
    lines.push(values.map(quote).join());
  }
  return lines.join("\n") + "\n";
}

// ------------------------------------------------------------------------------------------------------------ events

for (const column of COLUMNS) {
  const button = el("button", { type: "button", textContent: column.title });
  button.addEventListener("click", () => {
    view.down = view.key === column.key ? !view.down : column.key !== "name";
    view.key = column.key;
    arrange();
  });
  $("head").append(el("div", { className: "cell", role: "columnheader" }, button));
  for (const down of [1, 0]) $("order").append(el("option", { value: `${column.key} ${down}`, textContent: `${column.title}: ${column.words[down]}` }));
}
$("head").setAttribute("aria-rowindex", 1);
$("order").addEventListener("change", () => {
  const [key, down] = $("order").value.split(" ");
  Object.assign(view, { key, down: down === "1" });
  arrange();
});
if ($("artifact")) {
  for (let t = -1; t < tasks.length; t++) $("artifact").append(el("option", { value: t, selected: t === view.artifact }));
  $("artifact").addEventListener("change", () => {
    view.artifact = Number($("artifact").value);
    findWorst();
    arrange();
  });
}
const chips = [...document.querySelectorAll(".chip[data-show]")];
for (const chip of chips) {
  chip.addEventListener("click", () => {
    for (const each of chips) each.setAttribute("aria-pressed", String(each === chip));
    view.show = chip.dataset.show;
    arrange();
  });
}
$("search").addEventListener("input", () => {
  view.text = $("search").value;
  arrange();
});
$("rows").addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row && !String(window.getSelection())) showDetails(view.list.indexOf(Number(row.dataset.index)));
});
$("previous").addEventListener("click", () => showDetails(shownPosition - 1));
$("next").addEventListener("click", () => showDetails(shownPosition + 1));
$("close").addEventListener("click", () => $("details").close());
$("details").addEventListener("click", (event) => { if (event.target === $("details")) $("details").close(); });
$("csv").addEventListener("click", () => {
  const link = el("a", { href: URL.createObjectURL(new Blob(["\ufeff" + csv()], { type: "text/csv" })), download: "grainscan.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
let due = false;
const redraw = () => {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
};
window.addEventListener("scroll", redraw, { passive: true });
window.addEventListener("resize", redraw);
phone.addEventListener("change", () => { view.version += 1; draw(); });
window.addEventListener("beforeprint", () => draw(view.list.length <= 2000));
for (let k = 0; k < 21; k++) $("ramp").append(Object.assign(el("i"), { style: `background: ${colour(k / 20, 0.5)}` }));
relabel(...tasks.keys());
