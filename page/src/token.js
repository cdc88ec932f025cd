// The participant's token: where it comes from, and what it says.

const KEPT_AS = "parlor.authToken";

/**
 * The token from the address, which it is then removed from: it must not stay where it is shown,
 * bookmarked and copied. It is kept for this tab, so that the page can be loaded again. A token
 * after `#` is not even sent to the server, so that no log on the way can have it.
 */
export function takeToken() {
  const url = new URL(location.href);
  const hash = new URLSearchParams(url.hash.slice(1));
  const given = url.searchParams.get("authToken") ?? hash.get("authToken");
  if (given === null) return sessionStorage.getItem(KEPT_AS);
  sessionStorage.setItem(KEPT_AS, given);
  url.searchParams.delete("authToken");
  url.hash = "";
  history.replaceState(null, "", url.pathname + url.search);
  return given;
}

/** The claims of a token, unchecked; null when it is not a token. */
export function claimsOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(payload));
    return typeof claims?.meetingId === "string" ? claims : null;
  } catch {
    return null;
  }
}

/** When a token ended, or null while it is good. */
export function endOf(claims, now = new Date()) {
  const end = Number.isFinite(claims.exp) ? new Date(claims.exp * 1000) : null;
  return end && end <= now ? end : null;
}
