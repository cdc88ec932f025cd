//! Every operation on every surface rejects every caller without the right to it.

mod target;

use std::io::Write as _;
use std::time::Duration;

use parlor_server::http::{Endpoint, Surface};
use parlor_server::rest::endpoints;
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::json;

use self::target::Target;
use crate::http::resource::{UNKNOWN_ID, basic_auth};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_operation_rejects_unauthorised_callers,
    an_app_is_not_reached_through_another_account,
    every_form_of_credentials_is_accepted,
    a_revoked_token_stops_working_within_a_second,
    an_unlimited_token_needs_one_of_the_permissions,
];

/// A caller that an operation must reject.
struct Intruder {
    /// Description for assertion messages.
    name: &'static str,
    headers: Vec<(&'static str, String)>,
    /// Expected status of the response.
    status: u16,
}

fn intruder(name: &'static str, authorization: &str, status: u16) -> Intruder {
    Intruder {
        name,
        headers: vec![("authorization", authorization.to_owned())],
        status,
    }
}

/// Secrets of tokens that are no longer valid, or are valid for something else.
struct Tokens {
    expired: String,
    revoked: String,
    unprivileged: String,
    other_account: String,
    other_app: String,
}

impl Tokens {
    async fn create(server: &Server) -> Self {
        let expired = server.token(
            ACCOUNT_ID,
            &["--permission", "Realtime", "--expires-in", "1"],
        );
        let other_account = server.run(&["account", "create", "--name", "Other"]);
        let other_account = other_account["id"].as_str().unwrap();
        let other_app = server.app().await;
        let revoked = server.token(ACCOUNT_ID, &["--permission", "Realtime"]);
        server
            .account()
            .with_token(&revoked.secret)
            .get("/apps")
            .await
            .data(200);
        server.run(&["token", "revoke", &revoked.id, "--account", ACCOUNT_ID]);
        let tokens = Self {
            expired: expired.secret,
            revoked: revoked.secret,
            unprivileged: server.token(ACCOUNT_ID, &["--permission", "Stream"]).secret,
            other_account: server
                .token(other_account, &["--permission", "Realtime Admin"])
                .secret,
            other_app: server
                .token(
                    ACCOUNT_ID,
                    &["--permission", "Realtime Admin", "--app", other_app.id()],
                )
                .secret,
        };
        server
            .account_with(other_account, &tokens.other_account)
            .get("/apps")
            .await
            .data(200);
        other_app
            .with_token(&tokens.other_app)
            .get("/meetings")
            .await
            .data(200);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        tokens
    }

    fn intruders(&self, surface: Surface, target: &Target) -> Vec<Intruder> {
        let mut intruders = match surface {
            Surface::A => self.on_a(target),
            Surface::B => self.on_b(target),
        };
        intruders.push(Intruder {
            name: "a caller without credentials",
            headers: Vec::new(),
            status: 401,
        });
        intruders
    }

    fn on_a(&self, target: &Target) -> Vec<Intruder> {
        let bearer =
            |name, secret: &str, status| intruder(name, &format!("Bearer {secret}"), status);
        let keyed = |name, email: &str, key: &str| Intruder {
            name,
            headers: vec![
                ("x-auth-email", email.to_owned()),
                ("x-auth-key", key.to_owned()),
            ],
            status: 401,
        };
        vec![
            bearer("an unknown token", "no-such-token", 401),
            intruder("a scheme without a token", "Bearer", 401),
            intruder("a token without a scheme", API_TOKEN, 401),
            intruder("another scheme", &format!("Token {API_TOKEN}"), 401),
            intruder(
                "the other surface's scheme",
                &basic_auth(target.app.id(), API_TOKEN),
                401,
            ),
            bearer("a token twice", &format!("{API_TOKEN}{API_TOKEN}"), 401),
            keyed("an unknown key", "ada@example.com", "no-such-token"),
            keyed("a key without an email", "", API_TOKEN),
            bearer("an expired token", &self.expired, 401),
            bearer("a revoked token", &self.revoked, 401),
            bearer("a join token", &target.join_token, 401),
            bearer("a token without the permission", &self.unprivileged, 403),
            bearer("another account's token", &self.other_account, 403),
            bearer("a token of another app", &self.other_app, 403),
        ]
    }

    fn on_b(&self, target: &Target) -> Vec<Intruder> {
        let app = target.app.id();
        let basic_secret =
            |name, secret: &str, status| intruder(name, &basic_auth(app, secret), status);
        vec![
            basic_secret("an unknown token", "no-such-token", 401),
            basic_secret("an empty password", "", 401),
            intruder("a scheme without a token", "Basic", 401),
            intruder("invalid Base64", "Basic ***", 401),
            intruder("Base64 without a colon", "Basic YXBw", 401),
            intruder(
                "the other surface's scheme",
                &format!("Bearer {API_TOKEN}"),
                401,
            ),
            intruder("an unknown app id", &basic_auth(UNKNOWN_ID, API_TOKEN), 401),
            intruder("a malformed app id", &basic_auth("app", API_TOKEN), 401),
            basic_secret("an expired token", &self.expired, 401),
            basic_secret("a revoked token", &self.revoked, 401),
            basic_secret("a join token", &target.join_token, 401),
            basic_secret("a token without the permission", &self.unprivileged, 403),
            basic_secret("another account's token", &self.other_account, 401),
            basic_secret("a token of another app", &self.other_app, 403),
        ]
    }
}

async fn every_operation_rejects_unauthorised_callers(server: &Server) {
    let tokens = Tokens::create(server).await;
    let mut cells = 0;
    for endpoint in endpoints() {
        for (surface, path) in endpoint.mounts() {
            let target = Target::create(server).await;
            let before = target.state(server).await;
            for intruder in tokens.intruders(surface, &target) {
                check_rejected(server, &endpoint, &target, &path, &intruder).await;
                cells += 1;
            }
            assert_eq!(
                target.state(server).await,
                before,
                "{} {path} was changed",
                endpoint.method()
            );
            let (path, body) = (target.fill(&path), target.body(&endpoint));
            let authorised = target.authorised(server, surface);
            let response = authorised
                .send(endpoint.method().clone(), &path, body.as_ref())
                .await;
            // The same request succeeds with valid credentials.
            let has_no_session = path.contains("/active-session")
                && response.status == 404
                && response.text().contains("No active session found");
            assert!(
                matches!(response.status, 200 | 201) || has_no_session,
                "{path}: {}",
                response.text()
            );
        }
    }
    // The test harness would capture `println!`.
    let _ = writeln!(
        std::io::stdout(),
        "authorisation matrix: {cells} cells rejected"
    );
}

async fn check_rejected(
    server: &Server,
    endpoint: &Endpoint,
    target: &Target,
    path: &str,
    intruder: &Intruder,
) {
    let resource = intruder
        .headers
        .iter()
        .fold(server.public(), |resource, (name, value)| {
            resource.with_header(name, value)
        });
    let body = target.body(endpoint);
    let response = resource
        .send(endpoint.method().clone(), &target.fill(path), body.as_ref())
        .await;
    let context = format!("{} on {} {path}", intruder.name, endpoint.method());
    if endpoint.id() == "listApps" && intruder.name == "a token of another app" {
        assert!(
            !response.page().texts("id").contains(&target.app.id()),
            "{context}"
        );
        return;
    }
    assert_eq!(
        response.status,
        intruder.status,
        "{context}: {}",
        response.text()
    );
    response.expect_error(intruder.status);
}

async fn an_app_is_not_reached_through_another_account(server: &Server) {
    let created = server.run(&["account", "create", "--name", "Other"]);
    let account = created["id"].as_str().unwrap();
    let token = server.token(account, &["--permission", "Realtime Admin"]);
    let target = Target::create(server).await;
    let before = target.state(server).await;
    for endpoint in endpoints() {
        let (_, path) = endpoint.mounts().swap_remove(0);
        if !path.contains("{app_id}") {
            continue;
        }
        let path = target.fill(&path).replace(ACCOUNT_ID, account);
        let body = target.body(&endpoint);
        let send_as = async |secret: &str| {
            server
                .public()
                .with_token(secret)
                .send(endpoint.method().clone(), &path, body.as_ref())
                .await
        };
        send_as(&token.secret)
            .await
            .expect_error(404)
            .assert_message("Error: resource not found: no such app", None);
        send_as(API_TOKEN).await.expect_error(403);
    }
    assert_eq!(target.state(server).await, before);
}

async fn every_form_of_credentials_is_accepted(server: &Server) {
    let app = server.app().await;
    let forms = [
        vec![("authorization", format!("Bearer {API_TOKEN}"))],
        vec![("authorization", format!("bearer  {API_TOKEN} "))],
        vec![
            ("x-auth-email", "ada@example.com".to_owned()),
            ("x-auth-key", API_TOKEN.to_owned()),
        ],
    ];
    for form in forms {
        let path = format!(
            "/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{}/meetings",
            app.id()
        );
        let resource = form
            .iter()
            .fold(server.public(), |resource, (name, value)| {
                resource.with_header(name, value)
            });
        assert_eq!(resource.get(&path).await.page().total, 0, "{form:?}");
    }
    let both = app
        .with_header("x-auth-email", "ada@example.com")
        .with_header("x-auth-key", "no-such-key");
    both.get("/meetings").await.data(200);
    let response = app.with_token("no-such-token").get("/meetings").await;
    response.expect_error(401);
    assert!(response.header("www-authenticate").is_some());
}

async fn a_revoked_token_stops_working_within_a_second(server: &Server) {
    let app = server.app().await;
    let token = server.token(ACCOUNT_ID, &["--permission", "Realtime"]);
    let resource = app.with_token(&token.secret);
    resource.get("/meetings").await.data(200);
    let revoked = server.run(&["token", "revoke", &token.id, "--account", ACCOUNT_ID]);
    assert_eq!(revoked, json!({ "id": token.id, "revoked": true }));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    resource.get("/meetings").await.expect_error(401);
}

async fn an_unlimited_token_needs_one_of_the_permissions(server: &Server) {
    let app = server.app().await;
    for (permissions, status) in [
        (vec!["Realtime"], 200),
        (vec!["Realtime Admin"], 200),
        (vec!["Stream", "Realtime"], 200),
        (vec!["Stream"], 403),
        (vec!["realtime"], 403),
        (vec!["Realtime Admin Read"], 403),
    ] {
        let options: Vec<&str> = permissions
            .iter()
            .flat_map(|name| ["--permission", name])
            .collect();
        let token = server.token(ACCOUNT_ID, &options);
        assert_eq!(
            app.with_token(&token.secret).get("/meetings").await.status,
            status,
            "{permissions:?}"
        );
    }
}
