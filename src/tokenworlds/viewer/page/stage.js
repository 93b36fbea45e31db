// The panels, as large as fits; small ones by whole factors, so that all of their pixels are equal.

const GAP = 12, CAPTION = 26, SMALLEST = 96; // CSS pixels
const FEW = 2; // below this factor a whole one would leave too much room unused

export function makeStage(stage) {
  const shown = new Map(); // name -> {figure, canvas, width, height}

  function draw(panels) {
    const names = panels.map((panel) => panel.name);
    let changed = names.join("\n") !== [...shown.keys()].join("\n");
    if (changed) {
      shown.clear();
      stage.replaceChildren(...panels.map(({ name }) => {
        const figure = document.createElement("figure"), canvas = document.createElement("canvas");
        const caption = document.createElement("figcaption");
        caption.textContent = name;
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", name);
        figure.append(canvas, caption);
        shown.set(name, { figure, canvas });
        return figure;
      }));
    }
    for (const { name, bitmap, width, height } of panels) {
      const { canvas } = shown.get(name);
      if (canvas.width !== width || canvas.height !== height) {
        [canvas.width, canvas.height, changed] = [width, height, true];
      }
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
    }
    if (changed) fit();
  }

  function fit() {
    const canvases = [...shown.values()].map(({ canvas }) => canvas);
    if (!canvases.length) return;
    const wide = stage.clientWidth - 2 * parseFloat(getComputedStyle(stage).paddingLeft), narrow = matchMedia("(max-width: 60rem)").matches;
    const high = Math.max(200, innerHeight * (narrow ? 0.44 : 0.68));
    const sizes = (target) => canvases.map((canvas) => size(canvas, target, wide));
    let target = high;
    while (target > SMALLEST && heightOf(sizes(target), wide) > high) target -= 8;
    canvases.forEach((canvas, index) => {
      const [width, height, whole] = sizes(target)[index];
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      canvas.style.imageRendering = whole ? "pixelated" : "auto";
      canvas.closest("figure").style.width = `${width}px`;
    });
  }

  new ResizeObserver(fit).observe(stage);
  addEventListener("resize", fit);
  return draw;
}

// Width and height on the screen of a picture that is to be `target` high, and whether its pixels are whole.
function size(canvas, target, wide) {
  const ratio = devicePixelRatio, room = Math.min(target / canvas.height, wide / canvas.width);
  const whole = Math.floor(room * ratio);
  const scale = whole >= FEW ? whole / ratio : room;
  return [canvas.width * scale, canvas.height * scale, whole >= FEW];
}

function heightOf(sizes, wide) {
  let [total, row, left] = [0, 0, -GAP];
  for (const [width, height] of sizes) {
    if (left + GAP + width > wide && left > 0) {
      total += row + CAPTION + GAP;
      [row, left] = [0, -GAP];
    }
    left += GAP + width;
    row = Math.max(row, height);
  }
  return total + row + CAPTION;
}
