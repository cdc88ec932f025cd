//! The PROXY protocol, versions 1 and 2: the header in which a TCP proxy transmits the client's
//! address.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum length of a version 1 line, including its end.
const LINE_BYTES: usize = 107;
/// Start of a version 2 header. Every version 1 line is longer.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Maximum length of a version 2 header after its first 16 bytes: addresses, and extensions, which
/// are ignored.
const BLOCK_BYTES: usize = 4096;

/// Reads the header, and not a byte beyond it. Returns `None` for a connection of the proxy itself.
///
/// # Errors
/// When the header is missing or malformed.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [command, family, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BLOCK_BYTES {
            return Err(malformed());
        }
        let mut block = vec![0; length];
        stream.read_exact(&mut block).await?;
        let Source(client) = parse_v2(command, family, &block).ok_or_else(malformed)?;
        return Ok(client);
    }
    let mut line = start.to_vec();
    // Byte by byte, because what follows belongs to the next protocol.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let Source(client) = parse_v1(&line).ok_or_else(malformed)?;
    Ok(client)
}

/// The source of a connection: a client, or `None` for the proxy itself.
struct Source(Option<SocketAddr>);

/// Parses version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 5000 80`. Returns `None` if it is malformed.
fn parse_v1(line: &[u8]) -> Option<Source> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Source(None));
    }
    let (source, _) = (words.next()?, words.next()?.parse::<IpAddr>().ok()?);
    let (port, _) = (words.next()?.parse().ok()?, words.next()?);
    let source: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok()?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    let source = Source(Some(SocketAddr::new(source, port)));
    words.next().is_none().then_some(source)
}

/// Parses version 2, from its 13th byte on. Returns `None` if it is malformed.
fn parse_v2(command: u8, family: u8, block: &[u8]) -> Option<Source> {
    match command {
        0x20 => return Some(Source(None)),
        0x21 => {}
        _ => return None,
    }
    // Source and destination address, then the port of each.
    let (source, port): (IpAddr, _) = match family {
        0x11 => {
            let (addresses, ports) = block.get(..12)?.split_at(8);
            let source: [u8; 4] = addresses.first_chunk().copied()?;
            (Ipv4Addr::from(source).into(), ports.first_chunk()?)
        }
        0x21 => {
            let (addresses, ports) = block.get(..36)?.split_at(32);
            let source: [u8; 16] = addresses.first_chunk().copied()?;
            (Ipv6Addr::from(source).into(), ports.first_chunk()?)
        }
        // Unspecified, or a family without IP addresses.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Some(Source(None)),
        _ => return None,
    };
    let source = SocketAddr::new(source, u16::from_be_bytes(*port));
    Some(Source(Some(source)))
}

fn malformed() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "missing or malformed PROXY protocol header",
    )
}

/// Entry point of the fuzz targets: parses a header.
pub(crate) fn read_bytes(mut bytes: &[u8]) {
    let _ = read(&mut bytes).now_or_never();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Malformed;

    type Outcome = Result<Option<String>, Malformed>;

    /// Returns the parsed header, and the number of bytes after it.
    fn parse(bytes: &[u8]) -> (Outcome, usize) {
        let mut left = bytes;
        let header = read(&mut left).now_or_never().unwrap();
        let header = header.map(|from| from.map(|address| address.to_string()));
        (header.map_err(|_| Malformed), left.len())
    }

    fn second(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    #[test]
    fn version_1_is_parsed() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n",
                Ok(Some("192.0.2.1:5000".to_owned())),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 5000 80\r\n",
                Ok(Some("[2001:db8::1]:5000".to_owned())),
            ),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Ok(None)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", Err(Malformed)),
            ("PROXY TCP4 ::1 ::1 5000 80\r\n", Err(Malformed)),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 99999 80\r\n",
                Err(Malformed),
            ),
            ("GET / HTTP/1.1\r\n", Err(Malformed)),
        ] {
            assert_eq!(
                parse(format!("{line}GET /").as_bytes()).0,
                expected,
                "{line}"
            );
        }
        assert_eq!(
            parse(b"PROXY UNKNOWN\r\nGET /").1,
            5,
            "what follows is not read"
        );
        assert_eq!(parse("PROXY ".repeat(100).as_bytes()).0, Err(Malformed));
    }

    #[test]
    fn version_2_is_parsed() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80];
        assert_eq!(
            parse(&second(0x21, 0x11, &four)).0,
            Ok(Some("192.0.2.1:5000".to_owned()))
        );
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        let bytes = [second(0x21, 0x11, &with_more), b"GET /".to_vec()].concat();
        assert_eq!(parse(&bytes), (Ok(Some("192.0.2.1:5000".to_owned())), 5));
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[33]) = (0x20, 0x01, 1, 7);
        assert_eq!(
            parse(&second(0x21, 0x21, &six)).0,
            Ok(Some("[2001::1]:7".to_owned()))
        );
        assert_eq!(parse(&second(0x20, 0, &[])).0, Ok(None), "the proxy itself");
        for wrong in [
            second(0x21, 0x11, &four[..11]),
            second(0x21, 0x21, &six[..35]),
            second(0x11, 0x11, &four),
            second(0x21, 0x55, &four),
            second(0x21, 0x11, &[0; BLOCK_BYTES + 1]),
            SIGNATURE.to_vec(),
        ] {
            assert_eq!(parse(&wrong).0, Err(Malformed), "{wrong:?}");
        }
    }
}
