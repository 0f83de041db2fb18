//! The bare proxy: hyper on both sides, a set of keys, and nothing else. What hyper costs by itself.

use std::{cell::RefCell, collections::HashSet, net::SocketAddr, path::Path, rc::Rc};

use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{Either, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1 as client,
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

const KEY: HeaderName = HeaderName::from_static("x-pre-shared-key");

struct Bare {
    upstream: SocketAddr,
    keys: HashSet<Vec<u8>>,
    idle: RefCell<Vec<client::SendRequest<Incoming>>>,
}

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

impl Bare {
    async fn answer(&self, mut request: Request<Incoming>) -> hyper::Result<Answer> {
        let key = request.headers_mut().remove(KEY);
        if !key.is_some_and(|key| self.keys.contains(key.as_bytes())) {
            let mut refusal = Response::new(Either::Right(Empty::new()));
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(refusal);
        }
        let idle = self.idle.borrow_mut().pop();
        let mut sender = match idle {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.upstream).await.expect("the backend");
                stream.set_nodelay(true).expect("a socket");
                let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
                tokio::task::spawn_local(connection);
                sender
            }
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        // Whoever takes it next waits until this answer's body was read.
        self.idle.borrow_mut().push(sender);
        Ok(response.map(Either::Left))
    }
}

/// Serves for ever.
pub(crate) fn serve(listen: SocketAddr, upstream: SocketAddr, keys: &Path) {
    let keys = std::fs::read_to_string(keys).unwrap();
    let bare = Rc::new(Bare {
        upstream,
        keys: keys.lines().map(|line| line.as_bytes().to_vec()).collect(),
        idle: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let bare = Rc::clone(&bare);
            let service = service_fn(move |request| {
                let bare = Rc::clone(&bare);
                async move { bare.answer(request).await }
            });
            tokio::task::spawn_local(server::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}
