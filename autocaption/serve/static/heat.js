/* Where the model looked for a word: that stays bright and warm, the rest of the picture goes dark. */

const SIDE = 128; /* pixels of the drawing, which the browser stretches over the picture */
const CONTRAST = 1.4;

/* Draws the map of one word of an answer's attention; what the model did not see of the picture is dark. */
export function drawHeat(canvas, attention, word) {
  const { rows, columns, weights, seen: [left, top, right, bottom] } = attention;
  const map = weights[word], most = Math.max(...map) || 1;
  const pixels = new ImageData(SIDE, SIDE);
  for (let y = 0; y < SIDE; y += 1) {
    const down = ((y + 0.5) / SIDE - top) / (bottom - top);
    for (let x = 0; x < SIDE; x += 1) {
      const across = ((x + 0.5) / SIDE - left) / (right - left);
      const isSeen = across >= 0 && across <= 1 && down >= 0 && down <= 1;
      const weight = isSeen ? between(map, rows, columns, down * rows - 0.5, across * columns - 0.5) : 0;
      const heat = (weight / most) ** CONTRAST;
      pixels.data.set([30 + 225 * heat, 15 + 135 * heat, 20 + 20 * heat, 255 * (0.8 - 0.66 * heat)],
        4 * (y * SIDE + x));
    }
  }
  canvas.width = canvas.height = SIDE;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/* The weight at a point between the centres of places, smooth. */
function between(map, rows, columns, row, column) {
  const [up, fromUp] = split(row), [left, fromLeft] = split(column);
  const at = (r, c) => map[clamp(r, rows) * columns + clamp(c, columns)];
  const mix = (a, b, share) => a + (b - a) * share;
  return mix(mix(at(up, left), at(up, left + 1), fromLeft), mix(at(up + 1, left), at(up + 1, left + 1), fromLeft),
    fromUp);
}

function split(place) {
  const whole = Math.floor(place), part = place - whole;
  return [whole, part * part * (3 - 2 * part)];
}

const clamp = (place, count) => Math.min(Math.max(place, 0), count - 1);
