//! `longshore healthcheck`: one GET of /healthz on the agent's own port, for images without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::cli::{Exit, Failure};
use crate::config::{LISTEN_DEFAULT, Listen};

/// For each of connecting, sending and hearing. Docker and Kubernetes wait longer.
const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub fn healthcheck(listen: Option<Listen>) -> Result<Exit, Failure> {
    let address = match listen {
        Some(Listen::At(address)) => reachable(address),
        None | Some(Listen::Unasked) => LISTEN_DEFAULT,
        Some(Listen::Off) => {
            return Err(Failure::usage("with --listen none there is no port to ask")
                .hint("give the agent and the check the same address, such as 127.0.0.1:9105"));
        }
    };
    let answer = get(address).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot ask the agent on {address}"))
            .caused_by(&error)
            .hint("--listen must be the agent's own")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(Exit::Done);
    }
    let said = body.lines().next().or(head.lines().next()).unwrap_or("it said nothing");
    Err(Failure::new(Exit::Failed, format!("the agent on {address} is not well: {}", said.escape_debug())))
}

/// What listens everywhere is asked on the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// The verdict on an agent that answers so.
    fn verdict(answer: &'static str) -> Result<Exit, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            assert_eq!(asked[0], "GET /healthz HTTP/1.1");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let verdict = healthcheck(Some(Listen::At(address)));
        agent.join().unwrap();
        verdict
    }

    #[test]
    fn only_a_200_is_well() {
        assert_eq!(verdict("HTTP/1.1 200 OK\r\n\r\nok\n").unwrap(), Exit::Done);
        let sick = verdict("HTTP/1.1 503 Service Unavailable\r\n\r\nagent: no turn for 31 s\n").unwrap_err();
        assert_eq!(sick.code, Exit::Failed);
        assert!(sick.to_string().ends_with("is not well: agent: no turn for 31 s"), "{sick}");
        assert!(verdict("").is_err());
    }

    #[test]
    fn nobody_there_is_not_well_and_no_port_is_a_mistake() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(healthcheck(Some(Listen::At(address))).unwrap_err().code, Exit::Failed);
        assert_eq!(healthcheck(Some(Listen::Off)).unwrap_err().code, Exit::Usage);
    }

    #[test]
    fn everywhere_is_asked_on_the_loopback() {
        for (listened, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            assert_eq!(reachable(listened.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
