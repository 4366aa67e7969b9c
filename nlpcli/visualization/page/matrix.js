// The matrix view: a heat map with the tokens on both axes, drawn only where it is visible.

const FONT = 12;
const LEAST_LABEL = { row: 13, column: 14 }; // pixels between two labels
const RIGHT_TO_LEFT = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
const TILT = -Math.PI / 3.4; // of the labels above the columns

let matrix = null; // { n, m, rows, columns, weights, tops, picture, cell, left, above, right }

async function drawMatrix(current) {
  const weights = await shownMatrix();
  if (!current()) return;
  const { rows, columns } = sides();
  const [n, m] = [rows.labels.length, columns.labels.length];
  const none = weights === null;
  const shown = weights ?? new Float64Array(n * m);
  const tops = colourTops(shown, n, m, state.scale);
  matrix = { n, m, rows, columns, weights: shown, tops, picture: pixels(shown, n, m, tops, site().signed) };
  if (at.cell && (at.cell.i >= n || at.cell.j >= m)) at.cell = null;
  const labelled = `${byId("caption").textContent}: ${n} rows, ${m} columns. Arrow keys move from cell to cell.`;
  byId("matrix").setAttribute("aria-label", labelled);
  layOutMatrix();
  paintBar();
  showCell(null, none);
}

// The colours and fonts of a painting, asked for once.
function looks() {
  const family = getComputedStyle(document.body).fontFamily;
  const colours = Object.fromEntries(["ink", "soft", "line", "focus"].map((name) => [name, style(`--${name}`)]));
  return { ...colours, plain: `400 ${FONT}px ${family}`, strong: `600 ${FONT}px ${family}` };
}

// Sizes: the cells as large as they fit, though not below what can be pointed at; the rest is scrolled.
function layOutMatrix() {
  const frame = byId("matrix");
  const phone = innerWidth <= 760;
  const context = byId("matrix-canvas").getContext("2d");
  context.font = looks().strong;
  const widest = (side, most) => {
    let width = 20;
    for (const label of side.labels) width = Math.max(width, context.measureText(visible(label).slice(0, 60)).width);
    return Math.ceil(Math.min(width, most));
  };
  const labelLength = widest(matrix.columns, phone ? 70 : 130);
  matrix.left = widest(matrix.rows, phone ? 84 : 170) + 12;
  matrix.above = Math.ceil(labelLength * Math.sin(-TILT)) + 14;
  matrix.right = Math.ceil(labelLength * Math.cos(TILT)) + 4;
  matrix.labels = { left: matrix.left - 10, above: labelLength };
  const width = byId("panel").clientWidth - matrix.left - matrix.right;
  const height = roomBelow(frame) - matrix.above - 4;
  const fitting = Math.min(width / matrix.m, Math.max(height / matrix.n, 20));
  const cell = clamp(clamp(fitting, 1.5, 44) * at.zoom, 1, 64);
  matrix.cell = cell >= 4 ? Math.floor(cell) : cell;
  const full = {
    width: matrix.left + matrix.m * matrix.cell + matrix.right,
    height: matrix.above + matrix.n * matrix.cell + 2,
  };
  byId("spacer").style.width = `${full.width}px`;
  byId("spacer").style.height = `${full.height}px`;
  frame.style.width = `${Math.min(full.width, byId("panel").clientWidth)}px`;
  const scrollbar = full.width > byId("panel").clientWidth ? 16 : 0;
  frame.style.height = `${printing ? full.height : Math.min(full.height + scrollbar, roomBelow(frame))}px`;
}

// How much of the window a matrix may fill: all below the controls above it, but never less than most of a phone.
function roomBelow(frame) {
  const above = frame.getBoundingClientRect().top + scrollY;
  return Math.max(innerHeight - above - 50, Math.min(innerHeight * 0.72, 560));
}

function paintMatrix() {
  if (state.view !== "matrix" || !matrix) return;
  const frame = byId("matrix");
  const width = printing ? Math.min(frame.scrollWidth, 6000) : frame.clientWidth;
  const height = printing ? Math.min(frame.scrollHeight, 6000) : frame.clientHeight;
  const context = sharp(byId("matrix-canvas"), width, height);
  const { cell, left, above, picture, n, m } = matrix;
  const look = looks();
  const x = left - frame.scrollLeft;
  const y = above - frame.scrollTop;
  context.save();
  context.beginPath();
  context.rect(left - 1, above - 1, width - left + 1, height - above + 1);
  context.clip();
  context.imageSmoothingEnabled = cell < 1;
  context.drawImage(picture, x, y, m * cell, n * cell);
  if (cell >= 12) paintGaps(context, look.line, x, y, width, height);
  paintParts(context, look.soft, x, y);
  context.strokeStyle = look.line;
  context.strokeRect(x - 0.5, y - 0.5, m * cell + 1, n * cell + 1);
  if (at.cell) paintCross(context, look.focus, x, y);
  context.restore();
  paintLabels(context, look, x, y, width, height);
}

function paintGaps(context, colour, x, y, width, height) {
  const { cell, n, m, left, above } = matrix;
  context.fillStyle = colour;
  context.globalAlpha = 0.55;
  const right = Math.min(x + m * cell, width);
  const bottom = Math.min(y + n * cell, height);
  for (let j = 1; j < m; j++) context.fillRect(x + j * cell - 0.5, Math.max(y, above), 1, bottom - Math.max(y, above));
  for (let i = 1; i < n; i++) context.fillRect(Math.max(x, left), y + i * cell - 0.5, right - Math.max(x, left), 1);
  context.globalAlpha = 1;
}

// Between the parts of a text: a memory, a first and a second text.
function paintParts(context, colour, x, y) {
  const { cell, n, m, rows, columns } = matrix;
  const begins = (side) => side.groups.flatMap((group, k) => (k > 0 && group !== side.groups[k - 1] ? [k] : []));
  context.fillStyle = colour;
  for (const i of begins(rows)) context.fillRect(x, y + i * cell - 0.5, m * cell, 1);
  for (const j of begins(columns)) context.fillRect(x + j * cell - 0.5, y, 1, n * cell);
}

// The row and the column of the cell that is pointed at.
function paintCross(context, colour, x, y) {
  const { cell, n, m } = matrix;
  const [cx, cy] = [x + at.cell.j * cell, y + at.cell.i * cell];
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.strokeRect(x - 0.5, cy - 0.5, m * cell + 1, cell + 1);
  context.strokeRect(cx - 0.5, y - 0.5, cell + 1, n * cell + 1);
  context.lineWidth = 2;
  context.strokeRect(cx - 1, cy - 1, cell + 2, cell + 2);
}

function paintLabels(context, look, x, y, width, height) {
  const { cell, n, m, left, above, rows, columns, labels } = matrix;
  // Every so many tokens where they are too close, and in their place that of the cell that is pointed at.
  const shown = (place, current, least) => {
    const step = Math.max(1, Math.ceil(least / cell));
    return place === current || (place % step === 0 && !(Math.abs(place - current) < step));
  };
  context.textBaseline = "middle";
  for (let i = 0; i < n; i++) {
    const middle = y + (i + 0.5) * cell;
    if (middle < above || middle > height || !shown(i, at.cell?.i, LEAST_LABEL.row)) continue;
    Object.assign(context, writing(look, rows.special[i], at.cell?.i === i));
    label(context, rows.labels[i], labels.left, left - 7, middle, 0);
  }
  for (let j = 0; j < m; j++) {
    const middle = x + (j + 0.5) * cell;
    if (middle < left || middle > width || !shown(j, at.cell?.j, LEAST_LABEL.column)) continue;
    Object.assign(context, writing(look, columns.special[j], at.cell?.j === j));
    label(context, columns.labels[j], labels.above, middle, above - 6, TILT);
  }
}

function writing(look, special, current) {
  return { font: current ? look.strong : look.plain, fillStyle: special && !current ? look.soft : look.ink };
}

function label(context, token, most, x, y, turn) {
  const text = visible(token);
  context.save();
  context.translate(x, y);
  context.rotate(turn);
  context.textAlign = turn ? "left" : "right";
  context.direction = firstIsRightToLeft(text) ? "rtl" : "ltr";
  context.fillText(fitted(context, text, most), 0, 0);
  context.restore();
}

function firstIsRightToLeft(text) {
  const strong = /[\p{L}]/u.exec(text);
  return strong !== null && RIGHT_TO_LEFT.test(strong[0]);
}

function fitted(context, text, most) {
  if (text.length <= 60 && context.measureText(text).width <= most) return text;
  const characters = [...text];
  let [low, high] = [0, Math.min(characters.length - 1, 60)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (context.measureText(`${characters.slice(0, middle).join("")}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  return `${characters.slice(0, low).join("")}…`;
}

function paintBar() {
  const signed = site().signed;
  const context = sharp(byId("bar"), 178, 8);
  weightColours(signed).forEach((colour, i) => {
    context.fillStyle = `rgb(${colour.join(" ")})`;
    context.fillRect((i * 178) / 256, 0, 1.2, 8);
  });
  const row = state.scale === "row";
  const top = row ? 1 : state.scale === "absolute" ? 1 : matrix.tops[0] ?? 0;
  const ends = signed ? [-top, 0, top] : [0, top / (state.scale === "root" ? 4 : 2), top];
  byId("ticks").replaceChildren(...ends.map((value) => make("span", "", formatTick(value))));
  const meaning = { row: "share of the row's largest weight", root: "weight, by its square root" };
  byId("bar-text").textContent = meaning[state.scale] ?? "weight";
}

function formatTick(value) {
  return minus(String(Number(value.toPrecision(2))));
}

// --- the cell that is pointed at ---------------------------------------------------------------------------------

function showCell(event, none = false) {
  paintMatrix();
  const tip = byId("tip");
  if (!at.cell) {
    tip.hidden = true;
    setReadout(none ? "No head is selected." : "Point at a cell, or move with the arrow keys, to see its weight.");
    return;
  }
  const { i, j } = at.cell;
  const weight = matrix.weights[i * matrix.m + j];
  setReadout(named(matrix.rows, i), " attends to ", named(matrix.columns, j), " with ", make("b", "", formatWeight(weight)),
    make("span", "soft", `  (row ${i + 1}, column ${j + 1})`));
  const line = make("span");
  line.append(tokenLabel(matrix.rows.labels[i]), " → ", tokenLabel(matrix.columns.labels[j]));
  tip.replaceChildren(make("span", "number", formatWeight(weight)), line);
  tip.hidden = false;
  placeTip(tip);
}

// Beside the cell, on the side where there is room.
function placeTip(tip) {
  const frame = byId("matrix").getBoundingClientRect();
  const stage = byId("stage").getBoundingClientRect();
  const x = frame.left - stage.left + matrix.left + (at.cell.j + 1) * matrix.cell - byId("matrix").scrollLeft;
  const y = frame.top - stage.top + matrix.above + (at.cell.i + 1) * matrix.cell - byId("matrix").scrollTop;
  const over = x + tip.offsetWidth + 24 > stage.width;
  const left = over ? x - matrix.cell - tip.offsetWidth - 12 : x + 12;
  const under = y + tip.offsetHeight + 12 + stage.top > innerHeight - 44;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${under ? y - matrix.cell - tip.offsetHeight - 12 : y + 12}px`;
}

function cellAt(event) {
  const box = byId("matrix").getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  const j = Math.floor((x - matrix.left + byId("matrix").scrollLeft) / matrix.cell);
  const i = Math.floor((y - matrix.above + byId("matrix").scrollTop) / matrix.cell);
  const inside = x >= matrix.left && y >= matrix.above && i >= 0 && j >= 0 && i < matrix.n && j < matrix.m;
  return inside ? { i, j } : null;
}

function moveCell(event) {
  const { n, m } = matrix;
  let { i, j } = at.cell ?? { i: 0, j: -1 };
  if (event.key === "ArrowDown") i = event.ctrlKey ? n - 1 : i + 1;
  else if (event.key === "ArrowUp") i = event.ctrlKey ? 0 : i - 1;
  else if (event.key === "ArrowRight") j = event.ctrlKey ? m - 1 : j + 1;
  else if (event.key === "ArrowLeft") j = event.ctrlKey ? 0 : j - 1;
  else if (event.key === "Home") j = 0;
  else if (event.key === "End") j = m - 1;
  else if (event.key === "PageDown") i += 10;
  else if (event.key === "PageUp") i -= 10;
  else return;
  event.preventDefault();
  at.cell = { i: clamp(i, 0, n - 1), j: clamp(j, 0, m - 1) };
  bringIntoView();
  showCell(event);
}

function bringIntoView() {
  const frame = byId("matrix");
  const { cell, left, above } = matrix;
  const [x, y] = [at.cell.j * cell, at.cell.i * cell];
  const [width, height] = [frame.clientWidth - left, frame.clientHeight - above];
  frame.scrollLeft = clamp(frame.scrollLeft, x + cell - width + 4, x);
  frame.scrollTop = clamp(frame.scrollTop, y + cell - height + 4, y);
}

function zoomBy(factor) {
  at.zoom = factor === 0 ? 1 : clamp(at.zoom * factor, 0.25, 24);
  if (state.view !== "matrix" || !matrix) return;
  layOutMatrix();
  if (at.cell) bringIntoView();
  showCell(null);
}

function listenToMatrix() {
  const frame = byId("matrix");
  const point = (event) => {
    const cell = cellAt(event);
    if (cell?.i === at.cell?.i && cell?.j === at.cell?.j) return;
    at.cell = cell;
    showCell(event);
  };
  frame.addEventListener("pointermove", point);
  frame.addEventListener("pointerdown", point);
  frame.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch" || frame.matches(":focus-visible")) return;
    at.cell = null;
    showCell(null);
  });
  frame.addEventListener("keydown", moveCell);
  frame.addEventListener("scroll", () => requestAnimationFrame(paintMatrix), { passive: true });
  byId("smaller").addEventListener("click", () => zoomBy(1 / 1.4));
  byId("larger").addEventListener("click", () => zoomBy(1.4));
  byId("fit").addEventListener("click", () => zoomBy(0));
}
