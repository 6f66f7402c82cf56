//! The app behind a proxy: remembers the head of every request as it came, byte for byte.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The app.
pub(crate) struct Echo {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Arrived>>>,
}

/// A request that reached the app.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    /// As it was sent.
    pub(crate) target: String,
    /// As they were sent, in order.
    pub(crate) headers: Vec<(String, String)>,
}

impl Arrived {
    fn read(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
        let pair = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        Self { target, headers: lines.filter_map(pair).collect() }
    }

    /// Every value of a header for a program that takes `_` for `-`, as CGI and WSGI do.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let alike = |found: &str| found.replace('_', "-").eq_ignore_ascii_case(name);
        self.headers.iter().filter(|(found, _)| alike(found)).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that is there once; empty when it is not there.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> &str {
        let all = self.values(name);
        assert!(all.len() <= 1, "{name} arrived {} times: {self:?}", all.len());
        all.first().copied().unwrap_or_default()
    }

    /// Everything that was sent, to look for what must not be in it.
    pub(crate) fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Echo {
    /// Starts on a free port; ends with the test's runtime.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::default());
        actix_web::rt::spawn(serve(listener, Arc::clone(&seen)));
        Self { port, seen }
    }

    /// What arrived since the last time.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Arrived>>>) {
    while let Ok((socket, _)) = listener.accept().await {
        actix_web::rt::spawn(answer(socket, Arc::clone(&seen)));
    }
}

async fn answer(mut socket: TcpStream, seen: Arc<Mutex<Vec<Arrived>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = socket.read_u8().await else { return };
        head.push(byte);
    }
    seen.lock().unwrap().push(Arrived::read(&head));
    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthe app").await;
    let _ = socket.shutdown().await;
    // A body that nobody reads would reset the connection before the answer has arrived.
    let _ = socket.read_to_end(&mut Vec::new()).await;
}
