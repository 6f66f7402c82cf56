//! The baseline: a server of the same build that does nothing but answer.

use std::process::{Child, Command, Stdio};

use actix_web::{App, HttpServer, web};

/// Serves with one worker until it is killed.
pub(crate) fn serve(port: u16) {
    let server = HttpServer::new(|| App::new().default_service(web::to(|| async { "ok" })));
    let server = server.workers(1).bind(("127.0.0.1", port)).expect("the port is free").run();
    actix_web::rt::System::new().block_on(server).expect("serves");
}

/// The baseline as a process of its own; killed when dropped.
pub(crate) struct Bare(pub(crate) Child, pub(crate) u16);

impl Bare {
    pub(crate) fn start(port: u16) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(own).args(["bare", &port.to_string()]).stdout(Stdio::null());
        let bare = Self(command.spawn().expect("taskset starts"), port);
        let mut http = crate::http::Http::to(port);
        let within = std::time::Duration::from_secs(10);
        assert!(crate::server::until(within, || http.get("/api/me", &[]).is_ok()), "the baseline does not answer");
        bare
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
