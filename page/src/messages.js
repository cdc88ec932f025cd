// Messages that the page shows instead of a call.

function element(name, text) {
  const created = document.createElement(name);
  created.append(text);
  return created;
}

/**
 * Shows a message instead of the call. All content is inserted as text, never as markup.
 * Each of `parts` is a paragraph, or one of `{ code }`, `{ note }` and `{ retry }`.
 */
export function show(title, ...parts) {
  const message = document.createElement("main");
  message.id = "message";
  message.append(element("h1", title));
  for (const part of parts) {
    if (typeof part === "string") message.append(element("p", part));
    else if (part.code) {
      const block = document.createElement("pre");
      block.tabIndex = 0;
      block.append(element("code", part.code));
      message.append(block);
    } else if (part.note) message.append(Object.assign(element("p", part.note), { className: "note" }));
    else if (part.retry) {
      const button = element("button", part.retry);
      button.addEventListener("click", () => location.reload());
      message.append(button);
    }
  }
  document.title = `${title} · Parlor`;
  document.body.replaceChildren(message);
}

export function loading() {
  const main = Object.assign(element("main", "Opening the meeting…"), { id: "loading" });
  main.setAttribute("role", "status");
  document.body.replaceChildren(main);
}

const AUTHORIZED = `-H "Authorization: Bearer $PARLOR_TOKEN"`;

export function instructions() {
  show(
    "Join a meeting",
    "This page joins a meeting with the participant's token in its URL. If you were invited, open the complete link that you received.",
    "To create a link, add a participant to a meeting. Parlor printed the account, the app and the API token when it was first started:",
    {
      code: `export PARLOR=${location.origin}/client/v4/accounts/ACCOUNT/realtime/kit/APP
export PARLOR_TOKEN=API_TOKEN

curl -s "$PARLOR/meetings" \\
  ${AUTHORIZED} \\
  -H 'Content-Type: application/json' \\
  -d '{"title": "Weekly"}'

export MEETING=…    # data.id of the response

curl -s "$PARLOR/meetings/$MEETING/participants" \\
  ${AUTHORIZED} \\
  -H 'Content-Type: application/json' \\
  -d '{"custom_participant_id": "user-1", "name": "User 1",
       "preset_name": "group_call_host"}'`,
    },
    "The last response contains the participant's token in data.token. The link is:",
    { code: `${location.origin}/meet?authToken=TOKEN` },
    { note: "Each link is for one person. Add a participant for everyone who joins." },
  );
}

const UUID = /^[0-9a-f-]{36}$/;

function renewalInstructions(claims) {
  // The token is not verified here, so only valid UUIDs are inserted into commands that the user may paste.
  if (!UUID.test(claims?.meetingId) || !UUID.test(claims?.participantId)) return [];
  return [
    { note: "If you manage the meeting, this command creates a new token for the participant:" },
    {
      code: `MEETING=${claims.meetingId}
PARTICIPANT=${claims.participantId}
curl -s -X POST "$PARLOR/meetings/$MEETING/participants/$PARTICIPANT/token" \\
  ${AUTHORIZED}`,
    },
  ];
}

export function expired(claims, expiredAt) {
  const when = expiredAt.toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
  show("This link has expired", `It was valid until ${when}. Ask the person who invited you for a new one.`, ...renewalInstructions(claims));
}

export function malformed() {
  show(
    "This link is incomplete",
    "The value of authToken is not a participant's token. Links are long, and some programs truncate them. Copy the complete link, or ask the person who invited you to send it again.",
  );
}

export function insecure() {
  show(
    "This page needs HTTPS",
    "Browsers allow access to the camera and the microphone only over HTTPS or on localhost. Open the same address with https://, or ask the server's administrator to set up TLS.",
  );
}

export function unsupported() {
  show("This browser cannot join", "It does not support WebRTC, or WebRTC is disabled. Use a current version of Chrome, Edge, Firefox or Safari.");
}

/** Explains an error of the SDK's initialisation. */
export function joinFailed(claims, error) {
  const reason = error?.message ? [{ note: `Reason: ${error.message}` }] : [];
  const retry = { retry: "Try again" };
  // The SDK's code for the statuses 401, 403 and 404.
  if (String(error?.code) === "0004") {
    show(
      "This link is not valid",
      "The participant may have been removed, the meeting may have been closed, or the token may have been replaced. Ask the person who invited you.",
      ...reason,
      retry,
      ...renewalInstructions(claims),
    );
  } else {
    show("Cannot connect to the meeting", "The server did not respond as expected. Check your connection and try again.", ...reason, retry);
  }
}
