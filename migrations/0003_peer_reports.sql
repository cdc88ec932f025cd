-- The peer report finds a peer without knowing its session.
CREATE INDEX session_peers_peer ON session_peers (app_id, peer_id);
