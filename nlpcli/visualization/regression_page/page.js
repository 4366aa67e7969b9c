// Kernel regression with a width that can be moved: the same equations as nlpcli/attention/kernel_regression.py.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const { x, y } = data.points;
const flat = data.query_points === null;
const places = flat ? data.queries.map((query) => query[0]) : data.query_points.map((point) => y[point]);
const keys = flat ? x.map((point) => point[0]) : y;
const state = { fit: data.fits.length - 1, step: 0, query: Math.floor(places.length / 2) };

const short = (number) => (number === 0 ? "0" : Number(number.toPrecision(4)).toString());

// The width of each column of x: that of the chosen fit times a power of two; Infinity for the mean.
function widths() {
  return data.fits[state.fit].bandwidth.map((width) => (width === null ? Infinity : width * 2 ** state.step));
}

// The weights of all points for one query; the point `hidden` has none.
function weights(query, width, hidden = -1) {
  const squares = x.map((point, i) =>
    i === hidden ? Infinity : point.reduce((sum, value, k) => sum + ((value - query[k]) / width[k]) ** 2, 0));
  const least = Math.min(...squares);
  const powers = squares.map((square) => Math.exp((least - square) / 2));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

const weighed = (alpha) => alpha.reduce((sum, weight, i) => sum + weight * y[i], 0);
const predict = (queries, width) => queries.map((query) => weighed(weights(query, width)));

function errors(width) {
  const mean = (predictions) => predictions.reduce((sum, value, i) => sum + (value - y[i]) ** 2, 0) / y.length;
  return [mean(predict(x, width)), mean(x.map((point, i) => weighed(weights(point, width, i))))];
}

// --- the picture -----------------------------------------------------------------------------------------------

const LEFT = 60, RIGHT = 785, TOP = 12, MIDDLE = 330, FLOOR = 375, BOTTOM = 480;

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function axis(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const room = (high - low) * 0.03;
  const place = (value) => from + ((value - low + room) / (high - low + 2 * room)) * (to - from);
  const unit = 10 ** Math.floor(Math.log10(high - low));
  const step = [0.2, 0.5, 1, 2].map((share) => share * unit).find((size) => (high - low) / size <= 8) ?? unit;
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high && ticks.length < 20; k++) ticks.push(k * step);
  return { place, ticks, back: (at) => low - room + ((at - from) / (to - from)) * (high - low + 2 * room) };
}

const across = axis(keys, LEFT, RIGHT);
const up = axis([...y, ...(data.truth ?? [])], MIDDLE, TOP);

function path(values) {
  return "M" + values.map((value, i) => `${across.place(places[i]).toFixed(2)} ${up.place(value).toFixed(2)}`).join("L");
}

function frame() {
  const parts = [];
  for (const tick of across.ticks) {
    const at = across.place(tick);
    parts.push(element("path", { class: "grid", d: `M${at} ${TOP}V${MIDDLE}M${at} ${FLOOR}V${BOTTOM}` }));
    parts.push(element("text", { x: at, y: BOTTOM + 18, "text-anchor": "middle" }, short(tick)));
  }
  for (const tick of up.ticks) {
    parts.push(element("path", { class: "grid", d: `M${LEFT} ${up.place(tick)}H${RIGHT}` }));
    parts.push(element("text", { x: LEFT - 8, y: up.place(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  parts.push(element("text", { x: RIGHT, y: BOTTOM + 34, "text-anchor": "end" }, data.axes[0]));
  parts.push(element("text", { x: LEFT + 6, y: TOP + 10 }, data.axes[1]));
  parts.push(element("text", { x: LEFT + 6, y: FLOOR - 6 }, "attention weights of the query"));
  return parts;
}

function draw() {
  const width = widths();
  const alpha = weights(data.queries[state.query], width);
  const curve = predict(data.queries, width);
  const heights = flat ? y : predict(x, width);
  const parts = frame();
  const here = { across: across.place(places[state.query]), value: curve[state.query] };
  if (data.truth !== null) parts.push(element("path", { class: "truth", d: path(data.truth) }));
  if (flat) parts.push(element("path", { class: "curve", d: path(curve) }));
  else parts.push(element("path", { class: "truth", d: path(places) }));
  parts.push(element("path", { class: "query", d: `M${here.across} ${TOP}V${BOTTOM}` }));
  const most = Math.max(...alpha);
  alpha.forEach((weight, i) => {
    const share = weight / most;
    const at = { cx: across.place(keys[i]), cy: up.place(heights[i]), r: 2.5 + 5 * Math.sqrt(share) };
    parts.push(element("circle", { class: "point", "fill-opacity": 0.35 + 0.65 * share, ...at }));
    const top = BOTTOM - share * (BOTTOM - FLOOR);
    parts.push(element("path", { class: "stem", d: `M${at.cx} ${BOTTOM}V${top}` }));
  });
  parts.push(element("circle", { class: "here", cx: here.across, cy: up.place(here.value), r: 6 }));
  parts.push(element("text", { x: LEFT - 8, y: FLOOR + 4, "text-anchor": "end" }, short(most)));
  parts.push(element("text", { x: LEFT - 8, y: BOTTOM + 4, "text-anchor": "end" }, "0"));
  find("plot").replaceChildren(...parts);
  showReadout(width, alpha, here.value);
}

function showReadout(width, alpha, value) {
  const names = data.columns;
  const point = (values) => values.map((number, k) => `${names[k]} = ${short(number)}`).join(", ");
  const largest = alpha.map((weight, i) => [weight, i]).sort((one, other) => other[0] - one[0]).slice(0, 3);
  const shown = largest.map(([weight, i]) => `${short(weight)} (${names.at(-1)} = ${short(y[i])})`).join(", ");
  find("readout").textContent = `Query ${point(data.queries[state.query])}: prediction ${short(value)}. ` +
    `Largest weights: ${shown}.`;
  find("width-value").textContent = width.map((number) => (isFinite(number) ? short(number) : "∞")).join(", ");
  find("query-value").textContent = point(data.queries[state.query]);
  find("width").disabled = !isFinite(width[0]);
  [...find("fits").children].forEach((button, number) => {
    button.setAttribute("aria-pressed", String(number === state.fit && state.step === 0));
  });
}

// All fits, and the width that was moved to; it takes the longest, so that it is not done for each query.
function tabulate() {
  const rows = data.fits.map((fit) => [fit.label, fit.training_error, fit.leave_one_out_error]);
  if (state.step !== 0) rows.push([`width ${widths().map(short).join(", ")}`, ...errors(widths())]);
  find("errors").replaceChildren(...rows.map(([label, ...numbers]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    row.append(head, ...numbers.map((number) => {
      const cell = document.createElement("td");
      cell.textContent = short(number);
      return cell;
    }));
    return row;
  }));
}

// --- what a reader does ----------------------------------------------------------------------------------------

function choose(fit, step) {
  Object.assign(state, { fit, step });
  find("width").value = step;
  draw();
  tabulate();
}

data.fits.forEach((fit, number) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = fit.label;
  button.addEventListener("click", () => choose(number, 0));
  find("fits").append(button);
});
find("data-note").textContent = data.data;
find("query").max = places.length - 1;
find("query").value = state.query;
find("query").addEventListener("input", () => {
  state.query = Number(find("query").value);
  draw();
});
find("width").addEventListener("input", () => choose(state.fit, Number(find("width").value)));
find("plot").addEventListener("pointermove", (event) => {
  const box = find("plot").getBoundingClientRect();
  const wanted = across.back(((event.clientX - box.left) / box.width) * 800);
  let nearest = 0;
  places.forEach((place, i) => {
    if (Math.abs(place - wanted) < Math.abs(places[nearest] - wanted)) nearest = i;
  });
  state.query = nearest;
  find("query").value = nearest;
  draw();
});
choose(state.fit, 0);
find("panel").setAttribute("aria-busy", "false");
globalThis.regression = { state, curve: () => predict(data.queries, widths()), errors: () => errors(widths()) };
