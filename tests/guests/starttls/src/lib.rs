//! A line protocol with STARTTLS, so much like SMTP that `openssl s_client -starttls smtp` speaks it.
//!
//! | command | answer |
//! |---|---|
//! | `EHLO …` | `250-starttls`, `250 STARTTLS` |
//! | `STARTTLS` | `220 go ahead`, and TLS |
//! | `INFO` | `250 ` and what TLS led to, and the connection's id |
//! | `ECHO text` | `250 text` |
//! | `COUNT` | `250 ` and how many commands were answered before it |
//! | `DIAL url name` | `250 ` and what a server there echoes, after the client's side of this dialogue; or `550 ` and why not |
//! | `SEND name` | `250 ` and the size of the file of that name, its bytes, and `250 sent` and how many |
//! | `RECEIVE name count` | takes that many bytes for the file; then `250 received` and how many |
//! | `QUIT` | `221 bye`, and the end |

use nethost_sdk::{
    CloseReason, Context, Deferred, Error, ErrorCode, Extent, File, Origin, Protocol, Stream,
    TlsInfo, TlsRole, export_plugin, framing::Lines, log, spawn,
};

struct Session {
    lines: Lines,
    count: u64,
}

impl Protocol for Session {
    type Factory = ();

    fn connection_made(cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        cx.connection.write(b"220 starttls\r\n");
        Some(Self {
            lines: Lines::new(1000),
            count: 0,
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, mut data: &[u8]) {
        while let Some(line) = self.lines.next(&mut data) {
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
            let answer = match command {
                "EHLO" => "250-starttls\r\n250 STARTTLS".to_owned(),
                "INFO" => format!("250 id={} {}", cx.id(), info(cx.connection.tls())),
                "ECHO" => format!("250 {argument}"),
                "COUNT" => format!("250 {}", self.count),
                "STARTTLS" => "220 go ahead".to_owned(),
                "QUIT" => "221 bye".to_owned(),
                "DIAL" => {
                    dial(cx, argument);
                    self.count += 1;
                    continue;
                }
                "SEND" | "RECEIVE" => {
                    self.count += 1;
                    let moved = if command == "SEND" {
                        send(cx, argument)
                    } else {
                        receive(cx, argument)
                    };
                    if let Err(error) = moved {
                        let answer = format!("550 {}: {error}\r\n", error.code);
                        cx.connection.write(answer.as_bytes());
                    }
                    continue;
                }
                _ => "500 what?".to_owned(),
            };
            self.count += 1;
            cx.connection.write(format!("{answer}\r\n").as_bytes());
            match command {
                "STARTTLS" => {
                    start_tls(cx);
                    // What came after it in clear may be anybody's.
                    self.lines.clear();
                    return;
                }
                "QUIT" => cx.connection.close(),
                _ => {}
            }
        }
    }

    fn connection_lost(&mut self, _cx: &mut Context<'_, ()>, reason: CloseReason) {
        log::info!("lost: {reason}");
    }
}

fn start_tls(cx: &Context<'_, ()>) {
    let connection = cx.connection.clone();
    let secured = cx.connection.start_tls(TlsRole::Server);
    let secured = secured.or_else(async move |error| {
        log::info!("not secured: {}: {error}", error.code);
        connection.close();
        Err(error)
    });
    secured.detach();
}

fn send(cx: &Context<'_, ()>, name: &str) -> Result<(), Error> {
    let file = File::named(name)?;
    let answer = format!("250 {}\r\n", file.size()?);
    cx.connection.write(answer.as_bytes());
    tell(cx, "sent", cx.connection.send_file(&file, Extent::all()));
    Ok(())
}

/// What has come after the command's line is not for the file: a client waits for the answer.
fn receive(cx: &Context<'_, ()>, argument: &str) -> Result<(), Error> {
    let (name, count) = argument.split_once(' ').unwrap_or((argument, "0"));
    let count = count.parse().map_err(|error| failed(&error))?;
    let file = File::named(name)?;
    cx.connection.write(b"250 go ahead\r\n");
    let extent = Extent::all().length(count);
    tell(cx, "received", cx.connection.receive_file(&file, extent));
    Ok(())
}

/// Says what an operation came to.
fn tell(cx: &Context<'_, ()>, what: &'static str, moved: Deferred<u64>) {
    let connection = cx.connection.clone();
    let task = spawn(async move {
        let answer = match moved.await {
            Ok(count) => format!("250 {what} {count}\r\n"),
            Err(error) => format!("550 {}: {error}\r\n", error.code),
        };
        connection.write(answer.as_bytes());
    });
    task.detach();
}

/// Tells what a server says to the client's side of the dialogue.
fn dial(cx: &Context<'_, ()>, argument: &str) {
    let (url, name) = argument.split_once(' ').unwrap_or((argument, ""));
    let (url, name) = (url.to_owned(), name.to_owned());
    let connection = cx.connection.clone();
    let task = spawn(async move {
        let answer = match ask(&url, name).await {
            Ok(line) => format!("250 {line}\r\n"),
            Err(error) => format!("550 {}: {error}\r\n", error.code),
        };
        connection.write(answer.as_bytes());
    });
    task.detach();
}

async fn ask(url: &str, name: String) -> Result<String, Error> {
    let mut stream = Stream::connect(url).await?;
    line_with(&mut stream, "220").await?;
    write(&mut stream, b"STARTTLS\r\n").await?;
    line_with(&mut stream, "220").await?;
    stream.start_tls(TlsRole::client(name)).await?;
    write(&mut stream, b"ECHO hello\r\n").await?;
    let line = line_with(&mut stream, "250").await?;
    Ok(format!("{} {line}", info(stream.connection().tls())))
}

async fn line_with(stream: &mut Stream, start: &str) -> Result<String, Error> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing is read ahead.
    while stream
        .read(&mut byte)
        .await
        .map_err(|error| failed(&error))?
        > 0
        && byte != *b"\n"
    {
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    if line.starts_with(start) {
        Ok(line)
    } else {
        Err(failed(&format!("`{line}` in place of {start}")))
    }
}

async fn write(stream: &mut Stream, data: &[u8]) -> Result<(), Error> {
    let written = stream.write_all(data).await;
    written.map_err(|error| failed(&error))
}

fn failed(why: &impl ToString) -> Error {
    Error {
        code: ErrorCode::Other("dialogue".to_owned()),
        message: why.to_string(),
    }
}

fn info(info: Option<TlsInfo>) -> String {
    let Some(info) = info else {
        return "clear".to_owned();
    };
    let alpn = info.alpn.as_deref().map(String::from_utf8_lossy);
    let from = info.resumed_from.map(|id| id.to_string());
    let certificates = info.peer_certificates;
    format!(
        "version={} suite={} alpn={} sni={} resumed={} from={} certificates={} first={}",
        info.version,
        info.cipher_suite,
        alpn.as_deref().unwrap_or("-"),
        info.server_name.as_deref().unwrap_or("-"),
        info.resumed,
        from.as_deref().unwrap_or("-"),
        certificates.len(),
        certificates.first().map_or(0, Vec::len),
    )
}

export_plugin!(Session);
