// What the page of a person adds to the SDK: it remembers every event that the SDK emits.

/** Every event since the page was loaded: where it came from, its name, and what of its arguments can be written down. */
window.happened = [];
/** Every ClientError that the SDK made known. */
window.clientErrors = [];
window.addEventListener("ClientError", ({ detail }) => window.clientErrors.push(plain(detail)));

/** A value without what cannot be written down. People become who they are. */
function plain(value, depth = 0) {
  if (value === null || typeof value !== "object") return typeof value === "function" ? undefined : value;
  if (value instanceof Date) return value.getTime();
  if (value instanceof Error) return { name: value.name, code: value.code, message: value.message };
  if (Array.isArray(value)) return depth > 5 ? [] : value.map((one) => plain(one, depth + 1));
  if (value instanceof Map) return depth > 2 ? "…" : plain([...value.values()], depth + 1);
  if ("customParticipantId" in value && "userId" in value && typeof value.on === "function") return who(value);
  if (depth > 5 || value instanceof MediaStreamTrack || typeof value.on === "function") return "…";
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one, depth + 1)]));
}

/** What others are told about a person. */
function who(participant) {
  const { id, userId, name, picture, customParticipantId, presetName, stageStatus } = participant;
  return { id, userId, name, picture, customParticipantId, presetName, stageStatus };
}

/** Names of those in the meeting besides oneself, sorted. */
const names = (m) => m.participants.joined.toArray().map((one) => one.name).sort();

/** Somebody in the meeting, by name. */
const named = (m, name) => m.participants.joined.toArray().find((one) => one.name === name);

/** The chat as this person sees it: texts only. */
const texts = (m) => m.chat.messages.map((one) => one.message);

function watch(meeting) {
  const sources = {
    self: meeting.self, permissions: meeting.self.permissions, meta: meeting.meta, chat: meeting.chat, polls: meeting.polls,
    stage: meeting.stage, recording: meeting.recording, livestream: meeting.livestream,
    connectedMeetings: meeting.connectedMeetings, participants: meeting.participants,
    "participants.joined": meeting.participants.joined, "participants.waitlisted": meeting.participants.waitlisted,
    "participants.pinned": meeting.participants.pinned, "plugins.active": meeting.plugins.active,
  };
  for (const [from, source] of Object.entries(sources)) {
    source?.on("*", (name, ...values) => {
      window.happened.push({ from, name, values: values.map((value) => plain(value)), at: Date.now() });
    });
  }
  window.media.show(meeting);
  meeting.connectedMeetings?.on("meetingChanged", (next) => {
    window.meeting = next;
    watch(next);
  });
}

window.enter = async ({ secret, ...options }) => {
  if (secret) options.modules = { ...options.modules, e2ee: { enabled: true, manager: await encryption(secret) } };
  window.meeting = await RealtimeKitClient.init(options);
  watch(window.meeting);
};

/** What encrypts and decrypts media in the pages of those who know a secret. */
async function encryption(secret) {
  const { default: Manager } = await import("/e2ee.js");
  const keyProvider = new Manager.SharedKeyProvider();
  await keyProvider.setKey(secret);
  return new Manager({ keyProvider });
}
