//! What a server that runs in the process of its test begins with.

use parlor_protocol::ids::AccountId;
use parlor_server::identity::accounts;
use parlor_server::identity::api_tokens::NewToken;
use parlor_server::rest::apps;
use parlor_server::state::Parlor;
use uuid::Uuid;

/// Makes an account with an API token, which is `secret`, and an app. The ids of both.
pub(crate) async fn create(parlor: &Parlor, secret: &str) -> (AccountId, String) {
    let account = AccountId::from_uuid(Uuid::from_u128(7));
    let now_ms = parlor.clock.now_ms();
    accounts::create(&parlor.db, account, "test", now_ms)
        .await
        .unwrap();
    let token = NewToken {
        account,
        name: String::new(),
        permissions: vec!["Realtime".to_owned()],
        apps: None,
        expires_in_secs: None,
    };
    parlor.tokens.create(token, secret).await.unwrap();
    let app = apps::create(parlor, account, "test").await.unwrap();
    (account, app.id.to_string())
}
