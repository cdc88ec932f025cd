//! Who may do what: every operation on every surface against everybody who may not.

mod target;

use std::io::Write as _;
use std::time::Duration;

use parlor_server::http::{Endpoint, Surface};
use parlor_server::rest::endpoints;
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::json;

use self::target::Target;
use crate::http::place::{NOBODYS_ID, basic};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    nobody_gets_in_uninvited,
    an_app_is_not_reached_through_another_account,
    credentials_are_read_in_their_forms,
    a_revoked_token_stops_within_a_second,
    an_unlimited_token_needs_one_of_the_permissions,
];

/// Somebody without the right to do something.
struct Intruder {
    who: &'static str,
    headers: Vec<(&'static str, String)>,
    status: u16,
}

fn intruder(who: &'static str, authorization: &str, status: u16) -> Intruder {
    Intruder {
        who,
        headers: vec![("authorization", authorization.to_owned())],
        status,
    }
}

/// Tokens that were good once, or are good for something else.
struct Tokens {
    expired: String,
    revoked: String,
    powerless: String,
    foreign: String,
    confined: String,
}

impl Tokens {
    async fn make(server: &Server) -> Self {
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
            .bearing(&revoked.secret)
            .get("/apps")
            .await
            .data(200);
        server.run(&["token", "revoke", &revoked.id, "--account", ACCOUNT_ID]);
        let tokens = Self {
            expired: expired.secret,
            revoked: revoked.secret,
            powerless: server.token(ACCOUNT_ID, &["--permission", "Stream"]).secret,
            foreign: server
                .token(other_account, &["--permission", "Realtime Admin"])
                .secret,
            confined: server
                .token(
                    ACCOUNT_ID,
                    &["--permission", "Realtime Admin", "--app", other_app.id()],
                )
                .secret,
        };
        server
            .account_of(other_account, &tokens.foreign)
            .get("/apps")
            .await
            .data(200);
        other_app
            .bearing(&tokens.confined)
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
            who: "nobody",
            headers: Vec::new(),
            status: 401,
        });
        intruders
    }

    fn on_a(&self, target: &Target) -> Vec<Intruder> {
        let bearer = |who, secret: &str, status| intruder(who, &format!("Bearer {secret}"), status);
        let keyed = |who, email: &str, key: &str| Intruder {
            who,
            headers: vec![
                ("x-auth-email", email.to_owned()),
                ("x-auth-key", key.to_owned()),
            ],
            status: 401,
        };
        vec![
            bearer("garbage", "no-such-token-was-ever-made", 401),
            intruder("a scheme alone", "Bearer", 401),
            intruder("a token alone", API_TOKEN, 401),
            intruder("another scheme", &format!("Token {API_TOKEN}"), 401),
            intruder(
                "the other surface's scheme",
                &basic(target.app.id(), API_TOKEN),
                401,
            ),
            bearer(
                "a token and a half",
                &format!("{API_TOKEN}{API_TOKEN}"),
                401,
            ),
            keyed(
                "an unknown key",
                "ada@example.com",
                "no-such-token-was-ever-made",
            ),
            keyed("a key without an email", "", API_TOKEN),
            bearer("an expired token", &self.expired, 401),
            bearer("a revoked token", &self.revoked, 401),
            bearer("a participant", &target.join_token, 401),
            bearer("a token without the permission", &self.powerless, 403),
            bearer("another account's token", &self.foreign, 403),
            bearer("a token of another app", &self.confined, 403),
        ]
    }

    fn on_b(&self, target: &Target) -> Vec<Intruder> {
        let app = target.app.id();
        let secret = |who, secret: &str, status| intruder(who, &basic(app, secret), status);
        vec![
            secret("garbage", "no-such-token-was-ever-made", 401),
            secret("an empty password", "", 401),
            intruder("a scheme alone", "Basic", 401),
            intruder("what is not Base64", "Basic ***", 401),
            intruder("Base64 without a colon", "Basic YXBw", 401),
            intruder(
                "the other surface's scheme",
                &format!("Bearer {API_TOKEN}"),
                401,
            ),
            intruder("another app's name", &basic(NOBODYS_ID, API_TOKEN), 401),
            intruder("no app's name", &basic("app", API_TOKEN), 401),
            secret("an expired token", &self.expired, 401),
            secret("a revoked token", &self.revoked, 401),
            secret("a participant", &target.join_token, 401),
            secret("a token without the permission", &self.powerless, 403),
            secret("another account's token", &self.foreign, 401),
            secret("a token of another app", &self.confined, 403),
        ]
    }
}

async fn nobody_gets_in_uninvited(server: &Server) {
    let tokens = Tokens::make(server).await;
    let mut cells = 0;
    for endpoint in endpoints() {
        for (surface, path) in endpoint.mounts() {
            let target = Target::make(server).await;
            let before = target.state(server).await;
            for intruder in tokens.intruders(surface, &target) {
                try_to_get_in(server, &endpoint, &target, &path, &intruder).await;
                cells += 1;
            }
            assert_eq!(
                target.state(server).await,
                before,
                "{} {path} was changed",
                endpoint.method()
            );
            let (path, body) = (target.fill(&path), target.body(&endpoint));
            let invited = target.invited(server, surface);
            let answer = invited
                .send(endpoint.method().clone(), &path, body.as_ref())
                .await;
            // The request was good: only the credentials kept the others out.
            let nobody_inside = path.contains("/active-session")
                && answer.status == 404
                && answer.text().contains("No active session found");
            assert!(
                matches!(answer.status, 200 | 201) || nobody_inside,
                "{path}: {}",
                answer.text()
            );
        }
    }
    // Not `println!`, which the test harness would swallow.
    let _ = writeln!(
        std::io::stdout(),
        "authorisation matrix: {cells} cells refused"
    );
}

async fn try_to_get_in(
    server: &Server,
    endpoint: &Endpoint,
    target: &Target,
    path: &str,
    intruder: &Intruder,
) {
    let place = intruder
        .headers
        .iter()
        .fold(server.public(), |place, (name, value)| {
            place.with_header(name, value)
        });
    let body = target.body(endpoint);
    let answer = place
        .send(endpoint.method().clone(), &target.fill(path), body.as_ref())
        .await;
    let about = format!("{} on {} {path}", intruder.who, endpoint.method());
    if endpoint.id() == "listApps" && intruder.who == "a token of another app" {
        assert!(
            !answer.page().texts("id").contains(&target.app.id()),
            "{about}"
        );
        return;
    }
    assert_eq!(answer.status, intruder.status, "{about}: {}", answer.text());
    answer.refused(intruder.status);
}

async fn an_app_is_not_reached_through_another_account(server: &Server) {
    let made = server.run(&["account", "create", "--name", "Other"]);
    let account = made["id"].as_str().unwrap();
    let token = server.token(account, &["--permission", "Realtime Admin"]);
    let target = Target::make(server).await;
    let before = target.state(server).await;
    for endpoint in endpoints() {
        let (_, path) = endpoint.mounts().swap_remove(0);
        if !path.contains("{app_id}") {
            continue;
        }
        let path = target.fill(&path).replace(ACCOUNT_ID, account);
        let body = target.body(&endpoint);
        let ask = async |secret: &str| {
            server
                .public()
                .bearing(secret)
                .send(endpoint.method().clone(), &path, body.as_ref())
                .await
        };
        ask(&token.secret)
            .await
            .refused(404)
            .is("Error: resource not found: no such app", None);
        ask(API_TOKEN).await.refused(403);
    }
    assert_eq!(target.state(server).await, before);
}

async fn credentials_are_read_in_their_forms(server: &Server) {
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
        let place = form.iter().fold(server.public(), |place, (name, value)| {
            place.with_header(name, value)
        });
        assert_eq!(place.get(&path).await.page().total, 0, "{form:?}");
    }
    let both = app
        .with_header("x-auth-email", "ada@example.com")
        .with_header("x-auth-key", "no-such-key");
    both.get("/meetings").await.data(200);
    let answer = app.bearing("nobody").get("/meetings").await;
    answer.refused(401);
    assert!(answer.header("www-authenticate").is_some());
}

async fn a_revoked_token_stops_within_a_second(server: &Server) {
    let app = server.app().await;
    let token = server.token(ACCOUNT_ID, &["--permission", "Realtime"]);
    let place = app.bearing(&token.secret);
    place.get("/meetings").await.data(200);
    let revoked = server.run(&["token", "revoke", &token.id, "--account", ACCOUNT_ID]);
    assert_eq!(revoked, json!({ "id": token.id, "revoked": true }));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    place.get("/meetings").await.refused(401);
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
            app.bearing(&token.secret).get("/meetings").await.status,
            status,
            "{permissions:?}"
        );
    }
}
