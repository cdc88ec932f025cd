// Runs before the SDK: tells the suite which frames travel over its WebSocket, and changes nothing.
// A scenario may send frames of its own beside, as a client that does not keep to the rules.
(() => {
  const text = new TextDecoder();

  /** The fields of a protobuf message, @returns {Map<number, number | Uint8Array>} the last of each */
  function fieldsOf(bytes) {
    const fields = new Map();
    let at = 0;
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
        fields.set(tag >> 3, varint());
      } else {
        const length = { 1: 8, 5: 4 }[tag % 8] ?? varint();
        fields.set(tag >> 3, bytes.subarray(at, at + length));
        at += length;
      }
    }
    return fields;
  }

  /** The fields 1 (event), 2 (id) and 3 (payload) of an envelope. */
  function envelope(bytes) {
    const fields = fieldsOf(bytes);
    return { event: fields.get(1) ?? 0, id: fields.has(2) ? text.decode(fields.get(2)) : undefined, payload: fields.get(3) };
  }

  /** A message of fields: strings, numbers, booleans, and lists of fields again. @param {[tag: number, value: any][]} fields */
  function message(fields) {
    const varint = (value) => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
    return new Uint8Array(fields.flatMap(([tag, value]) => {
      if (typeof value === "number" || typeof value === "boolean") return [...varint(tag * 8), ...varint(Number(value))];
      const bytes = typeof value === "string" ? new TextEncoder().encode(value) : message(value);
      return [...varint(tag * 8 + 2), ...varint(bytes.length), ...bytes];
    }));
  }

  /** What a scenario has asked and was not answered, by id. @type {Map<string, (answer: object) => void>} */
  const asked = new Map();
  /** The transports of media that the server has made for this page: their ids, newest last. */
  window.transports = { send: [], receive: [] };
  const opening = new Map();
  let latest;

  /**
   * Sends a request of a scenario's own over the SDK's newest socket, and gives its answer: what an
   * error says, or the string in field `wanted` of the payload.
   */
  window.ask = (event, fields, wanted = 1) => new Promise((resolve) => {
    const id = `scenario-${crypto.randomUUID()}`;
    asked.set(id, ({ refusal, payload }) => {
      const value = payload && !refusal ? fieldsOf(payload).get(wanted) : undefined;
      resolve({ refusal, value: value instanceof Uint8Array ? text.decode(value) : value });
    });
    latest.send(message([[1, event], [2, id], [3, fields]]));
  });

  /** Remembers which transports there are. */
  function follow(direction, event, id, payload) {
    if (event !== 50331649 || !payload) return;
    if (direction === "up") opening.set(id, fieldsOf(payload).get(1) ? "receive" : "send");
    else if (opening.has(id)) window.transports[opening.get(id)].push(text.decode(fieldsOf(payload).get(1) ?? new Uint8Array()));
  }

  /** Reports a frame to the suite; what an error says goes with it. */
  function report(socket, direction, data) {
    if (typeof data === "string") return;
    const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    const { event, id, payload } = envelope(bytes);
    const isError = event === 65535 || event === 50331708;
    const refusal = isError && payload ? text.decode(payload).replace(/[^\x20-\x7e]+/g, " ").trim() : "";
    window.parlorSaw({ socket, direction, event, id, at: performance.now(), isBare: payload === undefined, refusal });
    follow(direction, event, id, payload);
    if (direction === "down" && asked.has(id)) {
      asked.get(id)({ refusal, payload });
      asked.delete(id);
    }
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
      latest = this;
    }

    send(data) {
      report(this.#index, "up", data);
      super.send(data);
    }
  };
})();
