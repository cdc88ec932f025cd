// Runs after the SDK in a participant's page: joins meetings, and records every event that the SDK emits.

/** Every event since the page was loaded: its source, its name, and its serialisable arguments. */
window.sdkEvents = [];
/** Every ClientError that the SDK dispatched. */
window.clientErrors = [];
window.addEventListener("ClientError", ({ detail }) => window.clientErrors.push(toPlain(detail)));

/** A copy of a value without the parts that cannot be serialised. Participants are reduced to their {@link info}. */
function toPlain(value, depth = 0) {
  if (value === null || typeof value !== "object") return typeof value === "function" ? undefined : value;
  if (value instanceof Date) return value.getTime();
  if (value instanceof Error) return { name: value.name, code: value.code, message: value.message };
  if (Array.isArray(value)) return depth > 5 ? [] : value.map((one) => toPlain(one, depth + 1));
  if (value instanceof Map) return depth > 2 ? "…" : toPlain([...value.values()], depth + 1);
  if ("customParticipantId" in value && "userId" in value && typeof value.on === "function") return info(value);
  if (depth > 5 || value instanceof MediaStreamTrack || typeof value.on === "function") return "…";
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, toPlain(one, depth + 1)]));
}

/** The properties of a participant that other participants know. */
function info(participant) {
  const { id, userId, name, picture, customParticipantId, presetName, stageStatus } = participant;
  return { id, userId, name, picture, customParticipantId, presetName, stageStatus };
}

/** The names of the other participants in the meeting, sorted. */
const names = (m) => m.participants.joined.toArray().map((one) => one.name).sort();

/** The participant in the meeting with this name. */
const byName = (m, name) => m.participants.joined.toArray().find((one) => one.name === name);

/** The texts of the chat messages that this participant has. */
const texts = (m) => m.chat.messages.map((one) => one.message);

function recordEvents(meeting) {
  const sources = {
    self: meeting.self, permissions: meeting.self.permissions, meta: meeting.meta, chat: meeting.chat, polls: meeting.polls,
    stage: meeting.stage, recording: meeting.recording, livestream: meeting.livestream,
    connectedMeetings: meeting.connectedMeetings, participants: meeting.participants,
    "participants.joined": meeting.participants.joined, "participants.waitlisted": meeting.participants.waitlisted,
    "participants.pinned": meeting.participants.pinned, "plugins.active": meeting.plugins.active,
  };
  for (const [source, emitter] of Object.entries(sources)) {
    emitter?.on("*", (name, ...values) => {
      window.sdkEvents.push({ source, name, values: values.map((value) => toPlain(value)), at: Date.now() });
    });
  }
  window.media.render(meeting);
  meeting.connectedMeetings?.on("meetingChanged", (next) => {
    window.meeting = next;
    recordEvents(next);
  });
}

/** Initialises the SDK. With `secret`, media is encrypted end to end with this shared key. */
window.initMeeting = async ({ secret, ...options }) => {
  if (secret) options.modules = { ...options.modules, e2ee: { enabled: true, manager: await encryptionManager(secret) } };
  window.meeting = await RealtimeKitClient.init(options);
  recordEvents(window.meeting);
};

async function encryptionManager(secret) {
  const { default: Manager } = await import("/e2ee.js");
  const keyProvider = new Manager.SharedKeyProvider();
  await keyProvider.setKey(secret);
  return new Manager({ keyProvider });
}
