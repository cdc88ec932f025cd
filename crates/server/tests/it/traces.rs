//! Export of traces to an OTLP collector. A clean shutdown flushes the remaining spans.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use parlor_testkit::ServerProcess;

use crate::process::BINARY;

/// Starts a collector that records everything it receives and responds with 200. Returns its URL
/// and the received bytes.
fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                stream
                    .set_read_timeout(Some(Duration::from_millis(500)))
                    .unwrap();
                let mut bytes = [0; 8192];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    kept.lock().unwrap().extend_from_slice(&bytes[..length]);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_arrive_at_the_collector_as_spans() {
    let (url, received) = collector();
    let dir = tempfile::tempdir().unwrap();
    let mut server = ServerProcess::builder(BINARY)
        .data_dir(dir.path())
        .environment("PARLOR_OTLP_ENDPOINT", &url)
        .start()
        .await
        .unwrap();
    let account = parlor_testkit::server::ACCOUNT_ID;
    let path = format!("/client/v4/accounts/{account}/realtime/kit/apps");
    server
        .client()
        .get(&path)
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert!(server.terminate().await.unwrap().success());
    let received = received.lock().unwrap();
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("POST /v1/traces"), "{text}");
    assert!(
        text.contains("listApps") && text.contains("parlor"),
        "{text}"
    );
    assert!(!text.contains(parlor_testkit::server::API_TOKEN));
}
