// The numbers of the page: unpacking them, and what the settings make of them.

const texts = JSON.parse(document.getElementById("data").textContent);

// Weights are float16 (1 sign, 5 exponent, 10 fraction bits); a table is the fastest way to read them.
const HALF = Float32Array.from({ length: 65536 }, (_, code) => {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >> 10) & 31;
  const fraction = (code & 1023) / 1024;
  return sign * (exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15));
});

const unpacked = new Map(); // number of a block -> promise of its Uint16Array

function unpack(block) {
  if (!unpacked.has(block)) unpacked.set(block, inflate(document.getElementById(`block-${block}`).textContent));
  return unpacked.get(block);
}

async function inflate(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer()); // all high bytes, then all low bytes
  const codes = new Uint16Array(planes.length / 2);
  for (let i = 0; i < codes.length; i++) codes[i] = (planes[i] << 8) | planes[codes.length + i];
  return codes;
}

// One side as it is shown: for each token its place among the shown ones (-1: hidden), and of those the labels and the
// positions in all that was read, of a word the mean of its tokens'.
function shownSide(side, words, hideSpecial) {
  const place = new Int32Array(side.tokens.length).fill(-1);
  const shown = { place, labels: [], special: [], groups: [], sizes: [], positions: [] };
  let word = -1; // the number of the word among all words, shown or not
  side.tokens.forEach((token, i) => {
    const begins = !words || i === 0 || !sameWord(side, i - 1, i);
    if (begins) word += 1;
    if (hideSpecial && side.special[i]) return;
    if (begins) {
      shown.labels.push(words ? side.merged[word] : token);
      shown.special.push(Boolean(side.special[i]));
      shown.groups.push(side.groups.length ? side.groups[i] : "");
      shown.sizes.push(0);
      shown.positions.push(0);
    }
    place[i] = shown.labels.length - 1;
    shown.sizes[place[i]] += 1;
    shown.positions[place[i]] += side.positions[i];
  });
  shown.positions = shown.positions.map((sum, k) => sum / shown.sizes[k]);
  return shown;
}

function sameWord(side, i, j) {
  const free = [i, j].some((k) => side.special[k] || side.words[k] < 0);
  return !free && side.words[i] === side.words[j] && (!side.groups.length || side.groups[i] === side.groups[j]);
}

// The weights of one head between the shown tokens: columns of a word are summed, its rows averaged.
function shownWeights(site, codes, head, rows, columns) {
  const n = site.queries.tokens.length;
  const m = site.keys.tokens.length;
  const width = columns.labels.length;
  const weights = new Float64Array(rows.labels.length * width);
  for (let i = 0; i < n; i++) {
    const row = rows.place[i];
    if (row < 0) continue;
    const from = (head * n + i) * m;
    const to = row * width;
    const share = site.scale / rows.sizes[row];
    for (let j = 0; j < m; j++) {
      const code = codes[from + j];
      const column = columns.place[j];
      if (code !== 0 && column >= 0) weights[to + column] += HALF[code] * share;
    }
  }
  return weights;
}

function meanOf(matrices) {
  if (matrices.length === 1) return matrices[0];
  const mean = new Float64Array(matrices[0].length);
  for (const weights of matrices) for (let i = 0; i < mean.length; i++) mean[i] += weights[i] / matrices.length;
  return mean;
}

// Entropy in bits and mean distance in tokens, over the rows that have any weight; null where they mean nothing.
// from, to: the positions of the rows and of the columns.
function headNumbers(site, weights, from, to) {
  if (site.signed) return { entropy: null, distance: null };
  const [n, m] = [from.length, to.length];
  let entropy = 0;
  let rows = 0;
  let total = 0;
  let far = 0;
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < m; j++) {
      const weight = weights[i * m + j];
      sum += weight;
      far += weight * Math.abs(from[i] - to[j]);
    }
    if (!(sum > 0)) continue;
    rows += 1;
    total += sum;
    for (let j = 0; j < m; j++) {
      const share = weights[i * m + j] / sum;
      if (share > 0) entropy -= share * Math.log2(share);
    }
  }
  return {
    entropy: rows ? Math.max(0, entropy / rows) : null,
    distance: rows && site.self ? far / total : null,
  };
}

function largest(weights) {
  let most = 0;
  for (let i = 0; i < weights.length; i++) if (Math.abs(weights[i]) > most) most = Math.abs(weights[i]);
  return most;
}

function formatWeight(value) {
  const size = Math.abs(value);
  const least = 4 * site().step; // where weights were rounded to steps, nothing finer is shown
  if (size < least) return `<${Number(least.toPrecision(1))}`;
  if (size !== 0 && (size < 0.001 || size >= 1000)) return minus(value.toPrecision(3));
  return minus(value.toFixed(size >= 10 ? 2 : 3));
}

function minus(text) {
  return text.replace("-", "−");
}

function formatNumber(value) {
  return value === null ? "–" : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// A token as it can be seen: blanks at its ends, line ends and characters without a picture get a visible sign.
const SIGNS = { " ": "␣", "\t": "⇥", "\n": "↵", "\r": "␍", "\u00a0": "⍽", "\u3000": "␣" };
const UNSEEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

function visible(token) {
  if (token === "") return "∅";
  const signs = (blanks) => blanks.replace(/./gsu, (sign) => SIGNS[sign] ?? sign);
  let text = token.replace(/^[ \u00a0\u3000]+|[ \u00a0\u3000]+$|[\t\n\r]/g, signs).replace(UNSEEN, codePoint);
  if (unseen(text)) text = text.replace(/./gsu, codePoint);
  return /^\p{M}/u.test(text) ? `◌${text}` : text;
}

// Whether nothing of a token can be seen, so that its sign stands for it.
function unseen(token) {
  return /^[\p{C}\p{Z}\ufe00-\ufe0f]*$/u.test(token);
}

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}
