// Reads the participant's token and its claims.

const STORAGE_KEY = "parlor.authToken";

/**
 * Takes the token from the URL, and removes it there, because URLs are displayed, bookmarked and copied.
 * The token is stored for this tab, so that the page can be reloaded. A token after `#` is not sent to the
 * server, so no access log contains it.
 */
export function takeToken() {
  const url = new URL(location.href);
  const hash = new URLSearchParams(url.hash.slice(1));
  const given = url.searchParams.get("authToken") ?? hash.get("authToken");
  if (given === null) return sessionStorage.getItem(STORAGE_KEY);
  sessionStorage.setItem(STORAGE_KEY, given);
  url.searchParams.delete("authToken");
  url.hash = "";
  history.replaceState(null, "", url.pathname + url.search);
  return given;
}

/** Parses the claims of a token without verifying it. Returns null if it is malformed. */
export function parseClaims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(payload));
    return typeof claims?.meetingId === "string" ? claims : null;
  } catch {
    return null;
  }
}

/** The time at which a token has expired, or null if it has not. */
export function expiredSince(claims, now = new Date()) {
  const expiry = Number.isFinite(claims.exp) ? new Date(claims.exp * 1000) : null;
  return expiry && expiry <= now ? expiry : null;
}
