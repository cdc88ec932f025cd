//! What a server that runs in the process of its test begins with.

use parlor_protocol::ids::AccountId;
use parlor_server::api_tokens::NewToken;
use parlor_server::parlor::Parlor;
use parlor_server::{accounts, api_tokens, apps};
use uuid::Uuid;

/// Makes an account with an API token, which is `secret`, and an app. The ids of both.
pub(crate) async fn create(parlor: &Parlor, secret: &str) -> (AccountId, String) {
    let account = AccountId::from_uuid(Uuid::from_u128(7));
    accounts::create(parlor, account, "test").await.unwrap();
    let token = NewToken {
        account,
        name: String::new(),
        permissions: vec!["Realtime".to_owned()],
        apps: None,
        expires_in_secs: None,
    };
    api_tokens::create(parlor, token, secret).await.unwrap();
    let app = apps::create(parlor, account, "test").await.unwrap();
    (account, app.id.to_string())
}
