// The connection: it comes back by itself, and of frames that arrive faster than they are drawn the newest is drawn.

const PATIENCE = [250, 500, 1000, 2000]; // milliseconds before the next try

export function connect({ onState, onControls, onError, draw }) {
  const address = new URL("socket", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  let socket, tries = 0, waiting = null, busy = false;

  const send = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };

  async function show(message) {
    if (waiting) send({ shown: waiting.number }); // skipped
    waiting = message;
    if (busy) return;
    busy = true;
    while (waiting) {
      const frame = waiting;
      waiting = null;
      try {
        await draw(await decode(frame));
      } catch (error) {
        console.error(error);
      }
      send({ shown: frame.number });
    }
    busy = false;
  }

  function open() {
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      tries = 0;
      onState(true);
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return void show(parse(data));
      const message = JSON.parse(data);
      if (message.controls) onControls(message.controls);
      if (message.error) onError(message.error);
    };
    socket.onclose = () => {
      onState(false);
      setTimeout(open, PATIENCE[Math.min(tries++, PATIENCE.length - 1)]);
    };
  }

  open();
  return send;
}

function parse(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  for (const panel of header.panels) {
    panel.blob = new Blob([new Uint8Array(buffer, start, panel.bytes)], { type: panel.type });
    start += panel.bytes;
  }
  return header;
}

async function decode(frame) {
  await Promise.all(frame.panels.map(async (panel) => { panel.bitmap = await createImageBitmap(panel.blob); }));
  return frame;
}
