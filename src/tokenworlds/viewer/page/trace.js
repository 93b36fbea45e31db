// Value, rewards and predicted rewards of the last steps as a small figure.

const STEPS = 200, HEIGHT = 56;

export function makeTrace(figure) {
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d"), kept = [];
  let last = null;
  return (status) => {
    if (!("value" in status) || status.step === last) return;
    if (status.step < last) kept.length = 0;
    last = status.step;
    kept.push(status);
    if (kept.length > STEPS) kept.shift();
    figure.hidden = false;
    paint();
  };

  function paint() {
    const width = canvas.clientWidth, ratio = devicePixelRatio;
    [canvas.width, canvas.height] = [width * ratio, HEIGHT * ratio];
    pen.scale(ratio, ratio);
    const colours = getComputedStyle(figure), x = (index) => (index + 0.5) * width / STEPS;
    const values = kept.map(({ value }) => value).filter(Number.isFinite);
    const low = Math.min(...values), range = Math.max(...values) - low || 1;
    const largest = Math.max(1e-6, ...kept.flatMap((one) => [Math.abs(one.reward ?? 0), Math.abs(one.predicted_reward ?? 0)]));
    const middle = HEIGHT / 2;
    for (const [name, colour, shift] of [["reward", "--gain", -1], ["predicted_reward", "--warn", 1]]) {
      pen.fillStyle = colours.getPropertyValue(colour);
      kept.forEach((one, index) => {
        const tall = (one[name] ?? 0) / largest * (middle - 4);
        pen.fillRect(x(index) - 1 + shift, middle, 2, -tall);
      });
    }
    pen.fillStyle = colours.getPropertyValue("--line");
    pen.fillRect(0, middle, width, 1);
    pen.strokeStyle = colours.getPropertyValue("--accent");
    pen.lineWidth = 1.5;
    pen.beginPath();
    kept.forEach(({ value }, index) => {
      if (Number.isFinite(value)) pen.lineTo(x(index), HEIGHT - 3 - (value - low) / range * (HEIGHT - 6));
    });
    pen.stroke();
  }
}
