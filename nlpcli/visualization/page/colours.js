// Colours: one hue from light to dark for weights, blue and orange for signed ones, Okabe and Ito's eight for heads.
// All can be distinguished with the common kinds of colour blindness.

const RAMPS = {
  light: ["#ffffff", "#dceaf6", "#aecde8", "#70a9d6", "#3580bb", "#125a97", "#083a6b", "#05224a"],
  dark: ["#14171b", "#13304a", "#13507f", "#1f74ad", "#459bd0", "#7dc0e8", "#b8e0f7", "#f0fbff"],
};
const DIVERGING = {
  light: ["#7a3300", "#b85a0c", "#e59a55", "#f6d9bb", "#ffffff", "#c6dcef", "#70a9d6", "#2470ad", "#083a6b"],
  dark: ["#ffdcb5", "#f2a659", "#b86a1c", "#5d3511", "#14171b", "#13395a", "#1f74ad", "#6db8ee", "#d3eefc"],
};
// Yellow is darkened on white, blue and black are lightened on black: else they can't be seen.
const HEADS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a89a00", "#4a4f57"],
  dark: ["#3f9fe0", "#e8742a", "#1fb98c", "#dd8fb9", "#e6a817", "#86cdf5", "#f0e442", "#c5cad1"],
};

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mix(one, other, share) {
  return one.map((value, k) => Math.round(value + (other[k] - value) * share));
}

function ramp(anchors) {
  const colours = anchors.map(rgb);
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (colours.length - 1);
    const below = Math.min(Math.floor(at), colours.length - 2);
    return mix(colours[below], colours[below + 1], at - below);
  });
}

const tables = {};

function theme() {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

// The 256 colours of weights: from 0 to the top, or from minus the top to the top where weights are signed.
function weightColours(signed) {
  const name = `${theme()} ${signed}`;
  tables[name] ??= ramp((signed ? DIVERGING : RAMPS)[theme()]);
  return tables[name];
}

// The colour of a head by its place; after eight the same hues come again, paler, then deeper.
function headColour(place) {
  const colours = HEADS[theme()];
  const round = Math.floor(place / colours.length) % 3;
  const colour = rgb(colours[place % colours.length]);
  const [back, ink] = theme() === "dark" ? ["#14171b", "#ffffff"] : ["#ffffff", "#000000"];
  const changed = round === 0 ? colour : round === 1 ? mix(colour, rgb(back), 0.42) : mix(colour, rgb(ink), 0.42);
  return `rgb(${changed.join(" ")})`;
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A picture with one pixel a weight, on a canvas of its own. tops: what each row's colour goes up to. The scale "root"
// colours by the square root, so that the faint can be distinguished beside a few that are strong.
function pixels(weights, n, m, tops, signed) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(m, 1);
  canvas.height = Math.max(n, 1);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const colours = weightColours(signed);
  for (let i = 0; i < n; i++) {
    const top = tops[i] || 1;
    for (let j = 0; j < m; j++) {
      const linear = Math.max(-1, Math.min(1, weights[i * m + j] / top));
      const share = state.scale === "root" ? Math.sign(linear) * Math.sqrt(Math.abs(linear)) : linear;
      const colour = colours[Math.round(signed ? (share + 1) * 127.5 : Math.max(0, share) * 255)];
      const at = 4 * (i * m + j);
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// What the colour of each row goes up to.
function colourTops(weights, n, m, scale) {
  if (scale !== "row") return new Float64Array(n).fill(scale === "absolute" ? 1 : largest(weights));
  return Float64Array.from({ length: n }, (_, i) => largest(weights.subarray(i * m, (i + 1) * m)));
}

// Makes a canvas of this size in CSS pixels, sharp on this screen, and gives its context.
function sharp(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
