//! Who somebody is: accounts, API tokens, the keys of this server and what is signed with them.

pub mod accounts;
pub mod api_tokens;
pub(crate) mod app_owners;
pub mod join_token;
pub(crate) mod signed_links;
pub mod signing_keys;
