// The model view: every head of every layer as a small matrix.

let gridOf = ""; // what the table was built for
const thumbs = new Map(); // button -> what is drawn on it, to draw it in other colours

async function drawModel(current) {
  const { rows, columns } = sides();
  const [n, m] = [rows.labels.length, columns.labels.length];
  buildGrid(n, m);
  setReadout("Click on a head, or press Enter, to open it. Each is coloured up to its own largest weight.");
  for (let layer = 0; layer < site().layers.length; layer++) {
    for (let head = 0; head < site().heads.length; head++) {
      const weights = await weightsOf(layer, head);
      if (!current()) return;
      paintThumb(layer, head, weights, rows.positions, columns.positions);
    }
    await new Promise((done) => setTimeout(done)); // lets the page answer between two layers
    if (!current()) return;
  }
}

// How large a thumbnail can be for all heads to stand side by side, in CSS pixels.
function thumbSize(n, m) {
  const wide = innerWidth > 760;
  const room = byId("panel").clientWidth - (wide ? 70 : 24);
  const gap = wide ? 7 : 4;
  const side = clamp(Math.floor(room / site().heads.length) - gap, wide ? 40 : 24, 150);
  const longest = Math.max(n, m);
  const length = (tokens) => Math.max(6, Math.round((side * tokens) / longest));
  return { width: length(m), height: length(n), side };
}

function buildGrid(n, m) {
  const { width, height, side } = thumbSize(n, m);
  const of = [state.text, state.site, width, height].join();
  const table = byId("thumbs");
  if (gridOf !== of) {
    gridOf = of;
    thumbs.clear();
    const names = site().heads.map((head, place) => (innerWidth > 760 ? headName(place) : String(head)));
    const heading = make("tr");
    heading.append(make("td"), ...names.map((name) => Object.assign(make("th", "", name), { scope: "col" })));
    const top = make("thead");
    top.append(heading);
    const body = make("tbody");
    site().layers.forEach((name, layer) => body.append(gridRow(layer, width, height, side)));
    table.replaceChildren(top, body);
  }
  markThumb();
}

function gridRow(layer, width, height, side) {
  const row = make("tr");
  const title = innerWidth > 760 ? layerName(layer) : String(site().layers[layer]);
  row.append(Object.assign(make("th", "", title), { scope: "row" }));
  site().heads.forEach((_, head) => {
    const button = make("button", "thumb");
    button.type = "button";
    button.tabIndex = -1;
    Object.assign(button.dataset, { layer, head });
    const canvas = make("canvas");
    sharp(canvas, width, height);
    button.append(canvas);
    if (side >= 56) button.append(make("span", "under", " "));
    const cell = make("td");
    cell.append(button);
    row.append(cell);
  });
  return row;
}

function thumb(layer, head) {
  return byId("thumbs").querySelector(`[data-layer="${layer}"][data-head="${head}"]`);
}

function markThumb() {
  const rows = byId("thumbs").querySelectorAll("tbody tr");
  rows.forEach((row, layer) => row.classList.toggle("current", layer === state.layer));
  const head = state.heads === "mean" ? -1 : state.heads.length === 1 ? state.heads[0] : -1;
  for (const button of byId("thumbs").querySelectorAll(".thumb")) {
    const chosen = Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === head;
    button.toggleAttribute("aria-current", chosen);
    if (chosen) button.setAttribute("aria-current", "true");
    button.tabIndex = -1;
  }
  (thumb(state.layer, Math.max(head, 0)) ?? thumb(0, 0)).tabIndex = 0;
}

function paintThumb(layer, head, weights, from, to) {
  const [n, m] = [from.length, to.length];
  const button = thumb(layer, head);
  const canvas = button.querySelector("canvas");
  const scale = state.scale === "row" ? "row" : "largest";
  thumbs.set(button, shrink(weights, n, m, colourTops(weights, n, m, scale), canvas.height, canvas.width));
  colourThumb(button);
  const numbers = headNumbers(site(), weights, from, to);
  const entropy = numbers.entropy === null ? "" : `entropy ${formatNumber(numbers.entropy)} bits`;
  const distance = numbers.distance === null ? "" : `mean distance ${formatNumber(numbers.distance)}`;
  button.dataset.numbers = [entropy, distance].filter(Boolean).join(", ");
  button.setAttribute("aria-label", [layerName(layer), headName(head), button.dataset.numbers].filter(Boolean).join(", "));
  const under = button.querySelector(".under");
  if (under) under.textContent = numbers.entropy === null ? "" : `${formatNumber(numbers.entropy)} bits`;
}

function colourThumb(button) {
  const canvas = button.querySelector("canvas");
  const { weights, n, m } = thumbs.get(button);
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.imageSmoothingEnabled = false;
  const picture = pixels(weights, n, m, new Float64Array(n).fill(1), site().signed);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

// Weights as shares of their tops, several to a pixel where there are more of them than pixels: the largest counts,
// so that a thin diagonal stays in sight.
function shrink(weights, n, m, tops, height, width) {
  const [rows, columns] = [Math.min(n, height), Math.min(m, width)];
  const small = new Float64Array(rows * columns);
  for (let i = 0; i < n; i++) {
    const row = Math.floor((i * rows) / n);
    for (let j = 0; j < m; j++) {
      const share = weights[i * m + j] / (tops[i] || 1);
      const place = row * columns + Math.floor((j * columns) / m);
      if (Math.abs(share) > Math.abs(small[place])) small[place] = share;
    }
  }
  return { weights: small, n: rows, m: columns };
}

function openHead(button, view) {
  state.layer = Number(button.dataset.layer);
  state.heads = [Number(button.dataset.head)];
  state.view = view ?? state.opens;
  render().then(() => byId(`tab-${state.view}`).focus());
}

function moveThumb(event) {
  const button = event.target.closest(".thumb");
  if (!button) return;
  const layers = site().layers.length - 1;
  const heads = site().heads.length - 1;
  let [layer, head] = [Number(button.dataset.layer), Number(button.dataset.head)];
  if (event.key === "ArrowDown") layer = event.ctrlKey ? layers : layer + 1;
  else if (event.key === "ArrowUp") layer = event.ctrlKey ? 0 : layer - 1;
  else if (event.key === "ArrowRight") head = event.ctrlKey ? heads : head + 1;
  else if (event.key === "ArrowLeft") head = event.ctrlKey ? 0 : head - 1;
  else if (event.key === "Home") head = 0;
  else if (event.key === "End") head = heads;
  else return;
  event.preventDefault();
  const next = thumb(clamp(layer, 0, layers), clamp(head, 0, heads));
  button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function describeHead(event) {
  const button = event.target.closest(".thumb");
  if (!button) return;
  const [layer, head] = [Number(button.dataset.layer), Number(button.dataset.head)];
  const numbers = button.dataset.numbers ? `: ${button.dataset.numbers}` : "";
  setReadout(make("b", "", `${layerName(layer)}, ${headName(head)}`), numbers);
}

function listenToGrid() {
  const table = byId("thumbs");
  table.addEventListener("click", (event) => {
    const button = event.target.closest(".thumb");
    if (button) openHead(button);
  });
  table.addEventListener("keydown", moveThumb);
  table.addEventListener("pointerover", describeHead);
  table.addEventListener("focusin", describeHead);
}
