// The head view: two columns of tokens and, between them, a line for each weight.

const ROW = 24;
const MOST_LINES = 20000;
const BUFFER = 600; // pixels drawn above and below what is visible, so that scrolling shows no gaps

const lists = { query: byId("queries"), key: byId("keys") };
let lines = null; // { n, m, rows, columns, heads: [{ name, colour, weights }], top, minimum, drawn, left }
let wiresTop = 0; // where the canvas begins within the wires

async function drawHead(current) {
  const { rows, columns } = sides();
  const heads = [];
  for (const head of drawnHeads()) {
    heads.push({ ...head, weights: await weightsOf(state.layer, head.place) });
  }
  if (!current()) return;
  const top = Math.max(0, ...heads.map((head) => largest(head.weights)));
  const minimum = MINIMA[state.minimum] * (site().signed ? top : 1);
  lines = { n: rows.labels.length, m: columns.labels.length, rows, columns, heads, top, minimum };
  fillTokens("query", rows);
  fillTokens("key", columns);
  if (at.pinned && at.pinned.index >= lists[at.pinned.side].children.length) at.pinned = null;
  collectLines();
  colourLines();
  const none = heads.length ? "All weights here are smaller than the smallest that is drawn." : "No head is selected.";
  byId("head-message").textContent = none;
  byId("head-message").hidden = lines.drawn.length > 0;
  byId("wires").style.height = `${Math.max(lines.n, lines.m) * ROW}px`;
  at.pointed = focusedToken();
  showPointed();
}

function focusedToken() {
  const item = document.activeElement?.closest?.(".token");
  if (!item?.matches(":focus-visible")) return null;
  return tokenAt({ target: item }, item.parentElement === lists.query ? "query" : "key");
}

function fillTokens(side, shown) {
  const list = lists[side];
  const of = JSON.stringify([shown.labels, shown.groups, shown.special]);
  if (list.dataset.of === of) return;
  list.dataset.of = of;
  const items = shown.labels.map((label, i) => {
    const item = make("li", "token");
    item.role = "option";
    item.tabIndex = i === 0 ? 0 : -1;
    item.setAttribute("aria-selected", "false");
    item.setAttribute("aria-label", `${visible(label)}, ${i + 1} of ${shown.labels.length}`);
    item.classList.toggle("special", shown.special[i]);
    item.classList.toggle("part", i > 0 && shown.groups[i] !== shown.groups[i - 1]);
    item.append(tokenLabel(label), make("span", "value"));
    return item;
  });
  list.replaceChildren(...items);
}

function colourLines() {
  for (const head of lines.heads) head.colour = head.place === "mean" ? style("--accent") : headColour(head.place);
  headLegend();
}

// The strongest lines from the minimum on, at most MOST_LINES of them, the weak before the strong.
function collectLines() {
  const { n, m, heads, top, minimum } = lines;
  const buckets = 2048;
  const counts = new Uint32Array(buckets + 1);
  const bucket = (size) => Math.min(buckets, Math.floor((size / top) * buckets));
  const each = (visit) => heads.forEach((head, h) => {
    for (let cell = 0; cell < n * m; cell++) {
      const size = Math.abs(head.weights[cell]);
      if (size > 0 && size >= minimum) visit(h, cell, size);
    }
  });
  each((h, cell, size) => { counts[bucket(size)] += 1; });
  let cut = buckets + 1;
  let count = 0;
  while (cut > 0 && count + counts[cut - 1] <= MOST_LINES) count += counts[--cut];
  const all = counts.reduce((sum, one) => sum + one, 0);
  if (count === 0 && all > 0) cut = buckets; // more equal weights than lines that can be drawn
  const drawn = [];
  each((h, cell, size) => {
    if (bucket(size) < cut || drawn.length === MOST_LINES) return;
    drawn.push({ h, i: Math.floor(cell / m), j: cell % m, size });
  });
  drawn.sort((a, b) => a.size - b.size);
  Object.assign(lines, { drawn, left: all - drawn.length });
}

function headLegend() {
  const { heads, top, left } = lines;
  const parts = [];
  if (heads.length && site().heads.length > 1 && heads.length <= 16) {
    for (const head of heads) {
      const key = make("span", "key");
      key.append(swatch(head.colour), head.name);
      parts.push(key);
    }
  }
  const thinnest = lines.drawn[0]?.size;
  if (thinnest) parts.push(`thinnest line ${formatWeight(thinnest)}, thickest ${formatWeight(top)}`);
  if (site().signed) parts.push("dashed: negative");
  if (left > 0) parts.push(`${left.toLocaleString("en")} lines of smaller weights are not drawn`);
  const elements = parts.map((part) => (typeof part === "string" ? make("span", "", part) : part));
  byId("head-legend").replaceChildren(...elements);
}

function swatch(colour) {
  const canvas = make("canvas");
  const context = sharp(canvas, 16, 4);
  context.fillStyle = colour;
  context.fillRect(0, 0, 16, 4);
  return canvas;
}

// The lines of one token, all from the minimum on.
function linesOf(token) {
  const { n, m, heads, minimum } = lines;
  const found = [];
  const others = token.side === "query" ? m : n;
  heads.forEach((head, h) => {
    for (let other = 0; other < others; other++) {
      const [i, j] = token.side === "query" ? [token.index, other] : [other, token.index];
      const weight = head.weights[i * m + j];
      const size = Math.abs(weight);
      if (size > 0 && size >= minimum) found.push({ h, i, j, size, weight, other });
    }
  });
  return found.sort((a, b) => a.size - b.size);
}

function paintLines() {
  if (state.view !== "head" || !lines) return;
  const box = byId("wires").getBoundingClientRect();
  const full = Math.max(lines.n, lines.m) * ROW;
  wiresTop = printing ? 0 : clamp(-box.top - BUFFER, 0, full);
  const height = printing ? Math.min(full, 8000) : Math.max(1, Math.min(full - wiresTop, innerHeight + 2 * BUFFER));
  const canvas = byId("wires-canvas");
  const context = sharp(canvas, box.width, height);
  canvas.style.top = `${wiresTop}px`;
  const token = at.pointed ?? at.pinned;
  for (const line of token ? linesOf(token) : lines.drawn) {
    // Heads that tie the same two tokens run side by side.
    const aside = (line.h - (lines.heads.length - 1) / 2) * Math.min(3, (ROW * 0.7) / lines.heads.length);
    const from = (line.i + 0.5) * ROW - wiresTop + aside;
    const to = (line.j + 0.5) * ROW - wiresTop + aside;
    if (Math.max(from, to) >= 0 && Math.min(from, to) <= height) paintLine(context, line, from, to, box.width);
  }
}

function paintLine(context, line, from, to, width) {
  const { heads, m, top } = lines;
  const share = line.size / top;
  context.strokeStyle = heads[line.h].colour;
  context.globalAlpha = 0.07 + 0.93 * share ** 0.9;
  context.lineWidth = 0.6 + 2.9 * share;
  context.setLineDash(heads[line.h].weights[line.i * m + line.j] < 0 ? [5, 4] : []);
  context.beginPath();
  context.moveTo(0, from);
  context.bezierCurveTo(width * 0.42, from, width * 0.58, to, width, to);
  context.stroke();
}

// Marks the token that is pointed at or kept, and what it is tied to; describes it in words.
function showPointed() {
  const token = at.pointed ?? at.pinned;
  const other = { query: "key", key: "query" };
  const tied = new Map();
  if (token) for (const line of linesOf(token)) tied.set(line.other, line); // the strongest of all heads comes last
  for (const side of ["query", "key"]) {
    [...lists[side].children].forEach((item, index) => {
      const line = token && side === other[token.side] ? tied.get(index) : undefined;
      const share = line ? line.size / lines.top : 0;
      item.toggleAttribute("data-weight", Boolean(line));
      if (line) item.style.setProperty("--weight", share.toFixed(3));
      item.lastChild.textContent = line ? formatWeight(line.weight) : "";
      item.classList.toggle("current", token?.side === side && token.index === index);
      item.setAttribute("aria-selected", String(at.pinned?.side === side && at.pinned.index === index));
    });
  }
  paintLines();
  if (token) describeToken(token, [...tied.values()].sort((a, b) => b.size - a.size));
  else setReadout("Point at a token to see its lines alone; click or press Enter to keep them.");
}

function describeToken(token, tied) {
  const [own, others] = token.side === "query" ? [lines.rows, lines.columns] : [lines.columns, lines.rows];
  const parts = [named(own, token.index), token.side === "query" ? " attends to " : " receives attention from "];
  const one = lines.heads.length === 1;
  tied.slice(0, 4).forEach((line, k) => {
    const head = one ? "" : ` (${lines.heads[line.h].name})`;
    parts.push(k ? ", " : "", named(others, line.other), ` ${formatWeight(line.weight)}${head}`);
  });
  if (!tied.length) parts.push("nothing with a weight that is drawn");
  setReadout(...parts);
}

// --- mouse and keys ----------------------------------------------------------------------------------------------

function tokenAt(event, side) {
  const item = event.target.closest?.("li");
  return item ? { side, index: [...lists[side].children].indexOf(item) } : null;
}

function pin(token) {
  const same = at.pinned?.side === token.side && at.pinned.index === token.index;
  at.pinned = same ? null : token;
  if (same) at.pointed = null;
  showPointed();
}

function moveToken(event, side) {
  const items = lists[side].children;
  const index = [...items].indexOf(document.activeElement);
  const steps = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + 10, PageUp: index - 10 };
  const ends = { Home: 0, End: items.length - 1 };
  if (event.ctrlKey) Object.assign(steps, { ArrowDown: items.length - 1, ArrowUp: 0 });
  const next = { ...steps, ...ends }[event.key];
  if (next !== undefined) focusToken(side, next);
  else if (event.key === "ArrowRight" && side === "query") focusToken("key", index);
  else if (event.key === "ArrowLeft" && side === "key") focusToken("query", index);
  else if ((event.key === "Enter" || event.key === " ") && index >= 0) pin({ side, index });
  else return;
  event.preventDefault();
}

function focusToken(side, index) {
  const items = lists[side].children;
  const item = items[clamp(index, 0, items.length - 1)];
  lists[side].querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  item.tabIndex = 0;
  item.focus();
}

function listenToTokens() {
  for (const side of ["query", "key"]) {
    const point = (token) => {
      at.pointed = token;
      showPointed();
    };
    lists[side].addEventListener("pointerover", (event) => {
      const token = tokenAt(event, side);
      if (token && (at.pointed?.side !== side || at.pointed.index !== token.index)) point(token);
    });
    lists[side].addEventListener("pointerleave", () => point(null));
    lists[side].addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) point(tokenAt(event, side));
    });
    lists[side].addEventListener("focusout", () => point(null));
    lists[side].addEventListener("click", (event) => {
      const token = tokenAt(event, side);
      if (token) pin(token);
    });
    lists[side].addEventListener("keydown", (event) => moveToken(event, side));
  }
  addEventListener("scroll", () => requestAnimationFrame(repaintIfLeft), { passive: true });
}

// Paints anew once the visible part leaves what is painted.
function repaintIfLeft() {
  if (state.view !== "head" || !lines) return;
  const top = -byId("wires").getBoundingClientRect().top;
  const height = parseFloat(byId("wires-canvas").style.height);
  const full = Math.max(lines.n, lines.m) * ROW;
  const above = wiresTop > 0 && top < wiresTop + 100;
  const below = wiresTop + height < full && top + innerHeight > wiresTop + height - 100;
  if (above || below) paintLines();
}
