//! Addresses (C55).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::error::{Diagnostic, Sink};
use super::super::model::{Address, Family};
use super::cursor::Cursor;
use super::draft::At;

/// Reads an address behind its keyword.
pub(super) fn read(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<At<Address>> {
    let address = try_read(cursor, sink);
    if address.is_none() {
        cursor.take_rest(); // One message about a broken address is enough.
    }
    address
}

fn try_read(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<At<Address>> {
    let family = family(cursor);
    let first = cursor.peek().map(|word| word.span);
    let (ip, scope, text) = match family {
        Some(Family::Ipv6) => bracketed(cursor, sink)?,
        Some(Family::Ipv4 | Family::Sdp | Family::Ssocks) => plain(cursor, sink)?,
        None if cursor.peek().is_some_and(|word| word.text == "[") => {
            let span = cursor.peek().map_or_else(|| cursor.last_span(), |word| word.span);
            sink.push(
                Diagnostic::error(span, "the keyword 'ipv6' is missing before the address")
                    .help("write 'address ipv6 [...]:PORT'"),
            );
            return None;
        }
        None => plain(cursor, sink)?,
    };
    let span = first.map_or_else(|| cursor.last_span(), |first| first.to(cursor.last_span()));
    let port = port(cursor, sink)?;
    let span = span.to(cursor.last_span());
    let family = family.unwrap_or(Family::Ipv4);
    Some(At { value: Address { family, ip, scope, port, text }, span })
}

fn family(cursor: &mut Cursor<'_>) -> Option<Family> {
    let word = cursor.peek()?;
    let family = [
        ("ipv4", Family::Ipv4),
        ("ipv6", Family::Ipv6),
        ("sdp", Family::Sdp),
        ("ssocks", Family::Ssocks),
        ("sci", Family::Ssocks),
    ]
    .into_iter()
    .find(|(keyword, _)| word.is(keyword))
    .map(|(_, family)| family)?;
    cursor.take();
    Some(family)
}

/// `10.1.1.31`
fn plain(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<(IpAddr, Option<String>, String)> {
    let word = cursor.take_text("an IPv4 address", sink)?;
    if let Ok(ip) = word.text.parse::<Ipv4Addr>() {
        return Some((ip.into(), None, word.text.clone()));
    }
    let digits = word.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let message = format!("'{}' is not an IPv4 address", word.text);
    let error = Diagnostic::error(word.span, message);
    sink.push(if digits {
        error
    } else {
        error.help("host names are not allowed here: write the number, as '10.1.1.31:7789'")
    });
    None
}

/// `[fd00::31%eth0]`
fn bracketed(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<(IpAddr, Option<String>, String)> {
    let open = cursor.take()?;
    if open.text != "[" {
        sink.push(
            Diagnostic::error(open.span, "an IPv6 address stands in brackets")
                .help("write 'ipv6 [fd00::1]:7789'"),
        );
        return None;
    }
    let mut text = String::new();
    let mut last = open.span;
    loop {
        let Some(word) = cursor.take() else {
            sink.error(last.behind(), "']' expected behind the IPv6 address");
            return None;
        };
        last = word.span;
        if word.text == "]" {
            break;
        }
        text.push_str(&word.text);
    }
    let (ip, scope) = match text.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope.to_owned())),
        None => (text.as_str(), None),
    };
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        sink.error(open.span.to(last), format!("'{text}' is not an IPv6 address"));
        return None;
    };
    Some((ip.into(), scope, text))
}

fn port(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<u16> {
    let last = cursor.last_span();
    match cursor.take() {
        Some(colon) if colon.text == ":" => {}
        other => {
            let span = other.map_or_else(|| last.behind(), |word| word.span);
            sink.push(
                Diagnostic::error(span, "':' and a port expected behind the address").help("as ':7789'"),
            );
            return None;
        }
    }
    let port = cursor.take_number("port", 1, u64::from(u16::MAX), sink)?;
    u16::try_from(port).ok()
}
