//! The account and the app of a server that runs in the test process.

use parlor_protocol::ids::AccountId;
use parlor_server::identity::accounts;
use parlor_server::identity::api_tokens::NewToken;
use parlor_server::rest::apps;
use parlor_server::state::ServerState;
use uuid::Uuid;

/// Creates an account with the API token `secret`, and an app. Returns the ids of both.
pub(crate) async fn create_account_and_app(
    state: &ServerState,
    secret: &str,
) -> (AccountId, String) {
    let account = AccountId::from_uuid(Uuid::from_u128(7));
    let now_ms = state.clock.now_ms();
    accounts::create(&state.db, account, "test", now_ms)
        .await
        .unwrap();
    let token = NewToken {
        account,
        name: String::new(),
        permissions: vec!["Realtime".to_owned()],
        apps: None,
        expires_in_secs: None,
    };
    state.tokens.create(token, secret).await.unwrap();
    let app = apps::create(state, account, "test").await.unwrap();
    (account, app.id.to_string())
}
