// Runs before the SDK: tells the suite which frames travel over its WebSocket, and changes nothing.
(() => {
  const text = new TextDecoder();

  /** The fields 1 (event), 2 (id) and 3 (payload) of a protobuf envelope. */
  function envelope(bytes) {
    let at = 0, event = 0, id, payload;
    const varint = () => {
      for (let value = 0, shift = 1; ; shift *= 128) {
        const byte = bytes[at++];
        value += (byte & 127) * shift;
        if (byte < 128) return value;
      }
    };
    while (at < bytes.length) {
      const tag = varint();
      if (tag % 8 === 0) {
        const value = varint();
        if (tag >> 3 === 1) event = value;
      } else {
        const length = varint();
        if (tag >> 3 === 2) id = text.decode(bytes.subarray(at, at + length));
        if (tag >> 3 === 3) payload = bytes.subarray(at, at + length);
        at += length;
      }
    }
    return { event, id, payload };
  }

  /** Reports a frame to the suite; what an error says goes with it. */
  function report(socket, direction, data) {
    if (typeof data === "string") return;
    const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    const { event, id, payload } = envelope(bytes);
    const isError = event === 65535 || event === 50331708;
    window.parlorSaw({
      socket, direction, event, id, at: performance.now(), isBare: payload === undefined,
      refusal: isError && payload ? text.decode(payload).replace(/[^\x20-\x7e]+/g, " ").trim() : "",
    });
  }

  window.sockets = [];
  window.WebSocket = class extends window.WebSocket {
    #index;

    constructor(...parameters) {
      super(...parameters);
      const entry = { url: this.url, closed: null, pings: 0 };
      const socket = window.sockets.push(entry) - 1;
      this.addEventListener("message", ({ data }) => {
        if (data === "2") entry.pings += 1;
        report(socket, "down", data);
      });
      this.addEventListener("close", ({ code, reason }) => {
        entry.closed = { code, reason };
        window.parlorSaw({ socket, direction: "closed" });
      });
      this.#index = socket;
    }

    send(data) {
      report(this.#index, "up", data);
      super.send(data);
    }
  };
})();
