// Runs before the SDK: reports every frame on the SDK's WebSockets to the suite, without changing it.
// A scenario can also send requests of its own on the SDK's socket, as a misbehaving client would.
(() => {
  const text = new TextDecoder();

  /** The fields of a protobuf message; of a repeated field, the last. @returns {Map<number, number | Uint8Array>} */
  function decodeFields(bytes) {
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

  /** Decodes the fields 1 (event), 2 (id) and 3 (payload) of an envelope. */
  function decodeEnvelope(bytes) {
    const fields = decodeFields(bytes);
    return { event: fields.get(1) ?? 0, id: fields.has(2) ? text.decode(fields.get(2)) : undefined, payload: fields.get(3) };
  }

  /** Encodes a message. Values are strings, numbers, booleans, or lists of fields. @param {[tag: number, value: any][]} fields */
  function encodeMessage(fields) {
    const varint = (value) => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
    return new Uint8Array(fields.flatMap(([tag, value]) => {
      if (typeof value === "number" || typeof value === "boolean") return [...varint(tag * 8), ...varint(Number(value))];
      const bytes = typeof value === "string" ? new TextEncoder().encode(value) : encodeMessage(value);
      return [...varint(tag * 8 + 2), ...varint(bytes.length), ...bytes];
    }));
  }

  /** Resolvers of the scenario's pending requests, by id. @type {Map<string, (reply: object) => void>} */
  const pendingRequests = new Map();
  /** The ids of the media transports that the server has created for this page, oldest first. */
  window.transports = { send: [], receive: [] };
  const pendingTransports = new Map();
  let latestSocket;

  /**
   * Sends a request on the SDK's newest socket, and returns the reply: the text of an error, or the
   * string in field `resultField` of the payload.
   */
  window.sendRequest = (event, fields, resultField = 1) => new Promise((resolve) => {
    const id = `scenario-${crypto.randomUUID()}`;
    pendingRequests.set(id, ({ error, payload }) => {
      const value = payload && !error ? decodeFields(payload).get(resultField) : undefined;
      resolve({ error, value: value instanceof Uint8Array ? text.decode(value) : value });
    });
    latestSocket.send(encodeMessage([[1, event], [2, id], [3, fields]]));
  });

  /** Keeps `window.transports` up to date. */
  function trackTransports(direction, event, id, payload) {
    if (event !== 50331649 || !payload) return;
    if (direction === "up") pendingTransports.set(id, decodeFields(payload).get(1) ? "receive" : "send");
    else if (pendingTransports.has(id)) window.transports[pendingTransports.get(id)].push(text.decode(decodeFields(payload).get(1) ?? new Uint8Array()));
  }

  /** Reports a frame to the suite, with the text if it is an error reply. */
  function record(socket, direction, data) {
    if (typeof data === "string") return;
    const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    const { event, id, payload } = decodeEnvelope(bytes);
    const isError = event === 65535 || event === 50331708;
    const error = isError && payload ? text.decode(payload).replace(/[^\x20-\x7e]+/g, " ").trim() : "";
    window.reportFrame({ socket, direction, event, id, at: performance.now(), isBare: payload === undefined, error });
    trackTransports(direction, event, id, payload);
    if (direction === "down" && pendingRequests.has(id)) {
      pendingRequests.get(id)({ error, payload });
      pendingRequests.delete(id);
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
        record(socket, "down", data);
      });
      this.addEventListener("close", ({ code, reason }) => {
        entry.closed = { code, reason };
        window.reportFrame({ socket, direction: "closed" });
      });
      this.#index = socket;
      latestSocket = this;
    }

    send(data) {
      record(this.#index, "up", data);
      super.send(data);
    }
  };
})();
