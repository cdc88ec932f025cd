// What the page says when there is no call to show.

function element(name, text) {
  const made = document.createElement(name);
  made.append(text);
  return made;
}

/**
 * Shows a message in place of the call. Everything in it is text, never markup.
 * `parts` are paragraphs, except `{ code }`, `{ note }` and `{ retry }`.
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

export function opening() {
  const sign = Object.assign(element("main", "Opening the meeting…"), { id: "opening" });
  sign.setAttribute("role", "status");
  document.body.replaceChildren(sign);
}

const AUTHORIZED = `-H "Authorization: Bearer $PARLOR_TOKEN"`;

export function explain() {
  show(
    "Join a meeting",
    "This page joins a meeting as the participant whose token is in its address. If somebody invited you, open the whole link that they sent.",
    "To make such a link, add a participant to a meeting. The first start of Parlor printed the account, the app and the API token:",
    {
      code: `export PARLOR=${location.origin}/client/v4/accounts/ACCOUNT/realtime/kit/APP
export PARLOR_TOKEN=API_TOKEN

curl -s "$PARLOR/meetings" \\
  ${AUTHORIZED} \\
  -H 'Content-Type: application/json' \\
  -d '{"title": "Weekly"}'

export MEETING=…    # data.id of the answer

curl -s "$PARLOR/meetings/$MEETING/participants" \\
  ${AUTHORIZED} \\
  -H 'Content-Type: application/json' \\
  -d '{"custom_participant_id": "user-1", "name": "User 1",
       "preset_name": "group_call_host"}'`,
    },
    "The last answer has the participant's token in data.token. The link is:",
    { code: `${location.origin}/meet?authToken=TOKEN` },
    { note: "A link is for one person. Everybody who joins needs a participant of their own." },
  );
}

const ID = /^[0-9a-f-]{36}$/;

function renewal(claims) {
  // The token is not verified here. Only ids get into a command that somebody may paste.
  if (!ID.test(claims?.meetingId) || !ID.test(claims?.participantId)) return [];
  return [
    { note: "If you run the meeting, this gives the participant a new token:" },
    {
      code: `MEETING=${claims.meetingId}
PARTICIPANT=${claims.participantId}
curl -s -X POST "$PARLOR/meetings/$MEETING/participants/$PARTICIPANT/token" \\
  ${AUTHORIZED}`,
    },
  ];
}

export function expired(claims, end) {
  const when = end.toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
  show("This link has expired", `It was good until ${when}. Ask whoever invited you for a new one.`, ...renewal(claims));
}

export function malformed() {
  show(
    "This link is not complete",
    "What stands after authToken= is not a participant's token. Links are long, and some programs cut them off: copy the whole link, or ask whoever invited you to send it again.",
  );
}

export function insecure() {
  show(
    "This page needs HTTPS",
    "Browsers give pages the camera and the microphone only over HTTPS or on localhost. Open the same address with https:// in front, or ask whoever runs this server to set up TLS.",
  );
}

export function unsupported() {
  show("This browser cannot join", "It has no WebRTC, or it is switched off. Use a current Chrome, Edge, Firefox or Safari.");
}

/** Why the SDK could not start, as far as its error says. */
export function refused(claims, error) {
  const reason = error?.message ? [{ note: `The reason given: ${error.message}` }] : [];
  const retry = { retry: "Try again" };
  // 0004 is the SDK's code for 401, 403 and 404 alike.
  if (String(error?.code) === "0004") {
    show(
      "This link does not let you in",
      "The participant may have been removed, the meeting may have been closed, or the token may have been replaced. Ask whoever invited you.",
      ...reason,
      retry,
      ...renewal(claims),
    );
  } else {
    show("The meeting cannot be reached", "The server did not answer as expected. Check your connection and try again.", ...reason, retry);
  }
}
