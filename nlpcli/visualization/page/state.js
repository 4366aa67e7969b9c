// What is shown: the settings, their place in the address, and the matrices they stand for.

const VIEWS = ["text", "head", "model", "matrix"];
const SCALES = ["largest", "root", "row", "absolute"];
const MINIMA = [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5];

// heads: places of the heads that are on, or "mean". minimum: for signed weights a share of the largest.
const state = {
  view: "head", text: 0, site: 0, layer: 0, heads: [0], words: false, hide: false,
  minimum: 7, scale: "largest", opens: "matrix", theme: "auto",
};
// Not in the address: the token that is kept, the token or cell pointed at, the size of cells against the fitting one.
let printing = false; // all is painted at once then, not only what is visible
const at = { pinned: null, pointed: null, cell: null, zoom: 1 };

const attention = () => texts[state.text];
const site = () => attention().sites[state.site];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

function firstSite(sites) {
  const cross = sites.findIndex((candidate) => candidate.name === "cross");
  return Math.max(cross, 0);
}

// Brings the numbers into range after text or site changed; a layer and heads that exist there, too, stay.
function settle() {
  state.text = clamp(state.text, 0, texts.length - 1);
  state.site = clamp(state.site, 0, attention().sites.length - 1);
  state.layer = clamp(state.layer, 0, site().layers.length - 1);
  if (state.heads !== "mean" && state.heads.length) {
    const there = state.heads.filter((head) => head < site().heads.length);
    state.heads = there.length ? there : everyHead();
  }
  if (site().heads.length === 1) state.heads = [0];
  if (state.view === "model" && !hasGrid()) state.view = "head";
  if (state.view === "text" && !hasText()) state.view = "head";
}

const LONG = 64; // tokens
let start = { ...state }; // what the address needn't contain

// Where to begin: of a translator's cross-attention the last layer but one aligns best (Garg et al. 2019).
function begin() {
  state.site = firstSite(texts[0].sites);
  if (hasText()) state.view = "text";
  const last = site().layers.length - 1;
  state.layer = site().name === "cross" ? Math.max(0, last - 1) : last;
  // In a long text the lines of many heads are a tangle, and most weights are small beside the largest.
  const long = site().queries.tokens.length > LONG;
  state.heads = long ? [0] : everyHead();
  state.scale = long ? "root" : "largest";
  start = { ...state };
}

const everyHead = () => site().heads.map((_, place) => place);
const hasText = () => attention().sentences.length > 0;
const hasGrid = () => site().layers.length * site().heads.length > 1;

function toHash() {
  const values = new URLSearchParams();
  values.set("view", state.view);
  if (texts.length > 1) values.set("text", String(state.text + 1));
  values.set("site", site().name);
  values.set("layer", String(site().layers[state.layer]));
  values.set("head", state.heads === "mean" ? "*" : state.heads.map((head) => site().heads[head]).join(","));
  if (state.words) values.set("words", "1");
  if (state.hide) values.set("special", "0");
  if (state.minimum !== start.minimum) values.set("min", String(MINIMA[state.minimum]));
  if (state.scale !== start.scale) values.set("scale", state.scale);
  if (state.theme !== "auto") values.set("theme", state.theme);
  return `#${values}`;
}

// Takes what the address contains; what is missing there, or wrong, stays.
function fromHash(hash) {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  const find = (list, wanted) => list.findIndex((name) => String(name) === wanted);
  const take = (name, choose) => {
    if (values.has(name)) choose(values.get(name));
  };
  take("view", (view) => { if (VIEWS.includes(view)) state.view = view; });
  take("text", (text) => { if (texts[Number(text) - 1]) state.text = Number(text) - 1; });
  settle();
  take("site", (name) => { state.site = Math.max(0, find(attention().sites.map((one) => one.name), name)); });
  take("layer", (name) => { state.layer = Math.max(0, find(site().layers, name)); });
  take("head", (names) => {
    const found = names.split(",").map((name) => find(site().heads, name)).filter((head) => head >= 0);
    state.heads = names === "*" ? "mean" : [...new Set(found)];
  });
  take("min", (minimum) => { if (find(MINIMA, minimum) >= 0) state.minimum = find(MINIMA, minimum); });
  take("scale", (scale) => { if (SCALES.includes(scale)) state.scale = scale; });
  take("theme", (name) => { if (["auto", "light", "dark"].includes(name)) state.theme = name; });
  if (values.has("view")) {
    state.words = values.get("words") === "1";
    state.hide = values.get("special") === "0";
  }
  settle();
}

function writeHash() {
  if (location.hash !== toHash()) history.replaceState(null, "", toHash());
}

// The two sides as shown; hiding special tokens has no effect on a side that has no others.
function sides() {
  const shown = (side) => shownSide(side, state.words, state.hide && !side.special.every(Boolean));
  return { rows: shown(site().queries), columns: shown(site().keys) };
}

// The heads whose weights are drawn: [{place, name, colour}]; the mean has no place of its own.
function drawnHeads() {
  if (state.heads === "mean") return [{ place: "mean", name: "mean of all heads" }];
  return [...state.heads].sort((a, b) => a - b).map((place) => ({ place, name: headName(place) }));
}

function headName(place) {
  const name = site().heads[place];
  return typeof name === "number" ? `head ${name}` : String(name);
}

function layerName(place) {
  const name = site().layers[place];
  return typeof name === "number" ? `layer ${name}` : String(name);
}

let cache = { of: "", matrices: new Map() };

// The shown weights of a head, or of "mean", in a layer. Kept until site, words or special tokens change.
async function weightsOf(layer, head) {
  const of = [state.text, state.site, state.words, state.hide, layer].join();
  const where = site();
  const { rows, columns } = sides();
  const codes = await unpack(where.blocks[layer]);
  if (cache.of !== of) cache = { of, matrices: new Map() };
  const { matrices } = cache;
  const one = (place) => {
    if (!matrices.has(place)) matrices.set(place, shownWeights(where, codes, place, rows, columns));
    return matrices.get(place);
  };
  if (head !== "mean") return one(head);
  if (!matrices.has("mean")) matrices.set("mean", meanOf(where.heads.map((_, place) => one(place))));
  return matrices.get("mean");
}

// The one matrix of the matrix view: that of the head that is on, or the mean of those that are.
async function shownMatrix() {
  const heads = drawnHeads();
  if (!heads.length) return null;
  const matrices = [];
  for (const head of heads) matrices.push(await weightsOf(state.layer, head.place));
  return meanOf(matrices);
}
