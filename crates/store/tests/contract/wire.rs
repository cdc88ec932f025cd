//! A wire to a server that a test can cut.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Forwards connections from a port of its own to a server.
pub(crate) struct Wire {
    port: u16,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Wire {
    /// A wire to a port of this machine.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                accepted.lock().unwrap().spawn(async move {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { port, connections }
    }

    /// The port to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection without a word. New ones are accepted.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}
