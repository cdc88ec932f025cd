//! Identity: accounts, API tokens, the server's signing keys, and the tokens and links signed with
//! them.

pub mod accounts;
pub mod api_tokens;
pub(crate) mod app_owners;
pub mod join_token;
pub(crate) mod signed_links;
pub mod signing_keys;
