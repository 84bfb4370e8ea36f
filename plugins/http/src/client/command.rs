//! The command: `nethost exec plugins/http.wasm get URL`.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body::{Frame, SizeHint};
use nethost_sdk::{
    Deferred, Error as HostError, ErrorCode, File, FileOpening,
    command::{
        self, Command, ExitCode, Failure, Input, Io, Output, Progress, StandardStream, Unit,
    },
};

use super::{
    Client, Error, Options, Proxy, Upload,
    codec::{Malformed, OURS},
    url::Url,
};
use crate::{Body, BodyError, Http, site::Files};

/// Gets what a URL names, or sends something there.
#[derive(Debug)]
pub struct Get;

impl Command for Get {
    type Factory = <Http<Files> as nethost_sdk::Protocol>::Factory;

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        if arguments.iter().any(|argument| argument == "--help") || arguments == ["help"] {
            io.output.print(USAGE);
            return Ok(ExitCode::SUCCESS);
        }
        let call = match Call::parse(arguments) {
            Ok(call) => call,
            Err(wrong) => {
                io.error.print(&format!("error: {wrong}\n{USAGE}"));
                return Ok(ExitCode::USAGE);
            }
        };
        let mut errors = io.error;
        match get(call, io.input, io.output).await {
            Ok(status) if status < 400 => Ok(ExitCode::SUCCESS),
            Ok(_) => Ok(STATUS),
            Err(ended) => {
                errors.print(&format!("error: {ended}\n"));
                Ok(ended.code())
            }
        }
    }
}

/// What the arguments say.
#[derive(Debug)]
struct Call {
    url: Url,
    method: Option<Method>,
    headers: HeaderMap,
    data: Option<String>,
    output: Option<String>,
    shows_head: bool,
    options: Options,
}

impl Call {
    fn parse(arguments: Vec<String>) -> Result<Self, String> {
        let mut words = arguments.into_iter();
        if words.next().as_deref() != Some("get") {
            return Err("the first argument is `get`".to_owned());
        }
        let mut url = None;
        let mut call = Self {
            url: Url::parse("http://localhost").map_err(|error| error.to_string())?,
            method: None,
            headers: HeaderMap::new(),
            data: None,
            output: None,
            shows_head: false,
            options: Options::default(),
        };
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                call.option(name, value, &mut words)?;
            } else if let Some(short) = word.strip_prefix('-').filter(|it| !it.is_empty()) {
                let mut letters = short.chars();
                while let Some(letter) = letters.next() {
                    let name = long(letter).ok_or_else(|| format!("no option -{letter}"))?;
                    if is_switch(name) {
                        call.option(name, None, &mut words)?;
                        continue;
                    }
                    let rest = Some(letters.as_str().to_owned()).filter(|it| !it.is_empty());
                    call.option(name, rest, &mut words)?;
                    break;
                }
            } else if url.replace(word).is_some() {
                return Err("more than one URL".to_owned());
            }
        }
        let url = url.ok_or("no URL")?;
        call.url = Url::parse(&url).map_err(|error| format!("`{url}`: {error}"))?;
        Ok(call)
    }

    fn option(
        &mut self,
        name: &str,
        value: Option<String>,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        if is_switch(name) {
            if value.is_some() {
                return Err(format!("--{name} takes no value"));
            }
            match name {
                "head" => {
                    self.method = Some(Method::HEAD);
                    self.shows_head = true;
                }
                _ => self.shows_head = true,
            }
            return Ok(());
        }
        if !VALUED.contains(&name) {
            return Err(format!("no option --{name}"));
        }
        let value = value.or_else(|| words.next());
        let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
        let wrong = |what: &str| format!("--{name} {value}: {what}");
        match name {
            "output" => self.output = Some(value).filter(|name| name != "-"),
            "data" => self.data = Some(value),
            "request" => {
                let method = Method::from_bytes(value.as_bytes());
                let method = method.map_err(|_| wrong("it is no method"))?;
                if method == Method::CONNECT {
                    return Err(wrong("CONNECT is for proxies"));
                }
                self.method = Some(method);
            }
            "header" => {
                let (name, text) = value.split_once(':').ok_or_else(|| wrong("no colon"))?;
                let name = HeaderName::from_bytes(name.as_bytes());
                let name = name.map_err(|_| wrong("it is no header's name"))?;
                if OURS.contains(&name) && name != header::HOST {
                    return Err(wrong("that one is the client's own"));
                }
                let text = HeaderValue::from_str(text.trim());
                let text = text.map_err(|_| wrong("it is no header's value"))?;
                self.headers.append(name, text);
            }
            "proxy" => {
                let proxy = Proxy::parse(&value).map_err(|error| wrong(&error.to_string()))?;
                self.options.proxy = Some(proxy);
            }
            "max-redirects" => {
                let count = value.parse().ok().filter(|count| *count <= 1000);
                self.options.redirects = count.ok_or_else(|| wrong("not 0 to 1000"))?;
            }
            "connect-time" => self.options.connect_time = time(&value).map_err(|it| wrong(&it))?,
            "silence-time" => self.options.silence_time = time(&value).map_err(|it| wrong(&it))?,
            _ => self.options.total_time = Some(time(&value).map_err(|it| wrong(&it))?),
        }
        Ok(())
    }
}

fn long(letter: char) -> Option<&'static str> {
    Some(match letter {
        'o' => "output",
        'i' => "include",
        'I' => "head",
        'X' => "request",
        'H' => "header",
        'd' => "data",
        'x' => "proxy",
        'm' => "max-time",
        _ => return None,
    })
}

fn is_switch(name: &str) -> bool {
    matches!(name, "include" | "head")
}

/// A number of seconds, or a length of time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number = number.parse::<u32>().ok();
    let time = number.map(|number| u64::from(number) * milliseconds);
    time.filter(|time| *time > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "not a length of time such as 500ms, 30s or 5m".to_owned())
}

/// Returns the status.
async fn get(call: Call, input: Input, output: Output) -> Result<u16, Ended> {
    let upload = match &call.data {
        None => None,
        Some(data) => Some(upload(data, input).await?),
    };
    let mut headers = call.headers;
    let add = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    add(&mut headers, header::USER_AGENT, USER_AGENT);
    add(&mut headers, header::ACCEPT, "*/*");
    if upload.is_some() {
        add(&mut headers, header::CONTENT_TYPE, FORM);
    }
    let method = call.method.unwrap_or(match &upload {
        None => Method::GET,
        Some(_) => Method::POST,
    });
    let upload = upload.unwrap_or_else(|| Upload::of(Body::empty()));
    let client = Client::new(call.options);
    let response = client.fetch(call.url, (method, headers), upload).await?;
    let mut sink = Sink::open(call.output.as_deref(), output).await?;
    let status = response.status().as_u16();
    if call.shows_head {
        sink.write(&shown(&response)).await?;
    }
    let mut body = response.into_body();
    let bar = sink.bar(body.length());
    let mut done = 0;
    while let Some(data) = body.next().await {
        let data = data.map_err(Ended::of_body)?;
        done += data.len() as u64;
        sink.write(&data).await?;
        if let Some(bar) = &bar {
            bar.set(done);
        }
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(status)
}

/// What `-d` says: a text, `@FILE`, or `@-` for standard input.
async fn upload(data: &str, input: Input) -> Result<Upload, Ended> {
    let Some(name) = data.strip_prefix('@') else {
        return Ok(Upload::of(Body::full(data.to_owned())));
    };
    if name == "-" {
        let reading = Reading {
            input: Some(input),
            next: None,
        };
        return Ok(Upload::of(Body::stream(reading)));
    }
    let unread = |error| Ended::Read(name.to_owned(), error);
    let file = command::open(name, FileOpening::Read)
        .await
        .map_err(unread)?;
    let size = file.size().map_err(unread)?;
    let file = Rc::new(file);
    Ok(Upload::repeatable(move || {
        Body::stream(Stored {
            file: Rc::clone(&file),
            at: 0,
            size,
            next: None,
        })
    }))
}

/// A response's head: what it says, with its status in HTTP's own words and names in upper and lower case.
fn shown(response: &Response<Body>) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let line = format!("{:?} {} {reason}\r\n", response.version(), status.as_u16());
    let mut output = line.into_bytes();
    for (name, value) in response.headers() {
        crate::codec::encode::field(&mut output, name.as_str(), value.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
    output
}

/// Where the response goes.
enum Sink {
    Output(Output),
    File { name: String, file: File, at: u64 },
}

impl Sink {
    /// A file is made, or emptied, when there is something to write to it.
    async fn open(name: Option<&str>, output: Output) -> Result<Self, Ended> {
        let Some(name) = name else {
            return Ok(Self::Output(output));
        };
        let name = name.to_owned();
        match command::open(&name, FileOpening::Replace).await {
            Ok(file) => Ok(Self::File { name, file, at: 0 }),
            Err(error) => Err(Ended::Write(name, error)),
        }
    }

    async fn write(&mut self, data: &[u8]) -> Result<(), Ended> {
        match self {
            Self::Output(output) => {
                let written = output.write_all(data).await;
                written.map_err(|error| Ended::Write("standard output".to_owned(), error))
            }
            Self::File { name, file, at } => {
                let written = file.write_at(*at, data).await;
                *at += data.len() as u64;
                written.map_err(|error| Ended::Write(name.clone(), error))
            }
        }
    }

    /// How far it is, unless that would be drawn amid what is written.
    fn bar(&self, total: Option<u64>) -> Option<Progress> {
        let is_apart = match self {
            Self::Output(_) => !command::is_terminal(StandardStream::Output),
            Self::File { .. } => true,
        };
        is_apart.then(|| Progress::new(Unit::Bytes, total))
    }
}

/// A file that is sent.
struct Stored {
    file: Rc<File>,
    at: u64,
    size: u64,
    next: Option<Deferred<Vec<u8>>>,
}

impl http_body::Body for Stored {
    type Data = Bytes;
    type Error = HostError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HostError>>> {
        let left = self.size.saturating_sub(self.at);
        if left == 0 {
            return Poll::Ready(None);
        }
        let (file, at) = (Rc::clone(&self.file), self.at);
        let most = u32::try_from(left).map_or(READ, |left| left.min(READ));
        let next = self.next.get_or_insert_with(|| file.read_at(at, most));
        let data = ready!(Pin::new(next).poll(cx));
        self.next = None;
        let data = match data {
            Ok(data) => data,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        self.at += data.len() as u64;
        // A file that became shorter ends here, and the length that was told says that something is missing.
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size.saturating_sub(self.at))
    }
}

/// Standard input that is sent.
struct Reading {
    input: Option<Input>,
    next: Option<ReadInput>,
}

type ReadInput = Pin<Box<dyn Future<Output = (Input, Result<Vec<u8>, HostError>)>>>;

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = HostError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HostError>>> {
        if let Some(mut input) = self.input.take() {
            self.next = Some(Box::pin(async move {
                let data = input.read().await;
                (input, data)
            }));
        }
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (input, data) = ready!(next.as_mut().poll(cx));
        self.next = None;
        match data {
            Ok(data) if data.is_empty() => Poll::Ready(None),
            Ok(data) => {
                self.input = Some(input);
                Poll::Ready(Some(Ok(Frame::data(data.into()))))
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

/// Why there is no whole response.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Http(#[from] Error),
    #[error("{0}: {1}")]
    Read(String, HostError),
    #[error("{0}: {1}")]
    Write(String, HostError),
    #[error("{0}")]
    Body(BodyError),
}

impl Ended {
    fn of_body(error: BodyError) -> Self {
        match error {
            BodyError::Failed(error) => match error.downcast::<Error>() {
                Ok(error) => Self::Http(*error),
                Err(error) => Self::Body(BodyError::Failed(error)),
            },
            error => Self::Body(error),
        }
    }

    /// curl's numbers, which scripts know.
    fn code(&self) -> ExitCode {
        ExitCode(match self {
            Self::Http(error) => match error {
                Error::Url(..) | Error::ProxyScheme => 2,
                Error::Connect(_, error) => match &error.code {
                    ErrorCode::NameNotFound => 6,
                    ErrorCode::Timeout => 28,
                    ErrorCode::Other(what) if what == "tls" => 35,
                    _ => 7,
                },
                Error::Proxy(..) => 7,
                Error::Lost(_) => 56,
                Error::Malformed(Malformed::Incomplete) => 18,
                Error::Malformed(_) => 8,
                Error::Redirects(_) => 47,
                Error::Location(..) => 3,
                Error::Replay(_) => 65,
                Error::Coding(..) => 61,
                Error::Timeout(_) => 28,
                Error::Body(_) => 26,
            },
            Self::Read(..) => 26,
            Self::Write(..) => 23,
            Self::Body(_) => 1,
        })
    }
}

const USAGE: &str = "\
usage: http get [OPTION]... URL

Gets what a URL names, and writes it to standard output.

  -o, --output FILE         write it to FILE; - is standard output
  -i, --include             write the response's head before it
  -I, --head                ask for the head alone, and write it
  -X, --request METHOD      in place of GET, or of POST with -d
  -H, --header 'NAME: VALUE'  send this as well; repeat it for more
  -d, --data DATA           send this; @FILE sends a file, @- standard input
  -x, --proxy URL           ask http://[USER:PASSWORD@]HOST:PORT, with CONNECT for https
      --max-redirects N     follow so many [default: 10]; 0 shows them
  -m, --max-time TIME       all of it may take so long, such as 500ms, 30s or 5m
      --connect-time TIME   so long may a connection take to be made [default: 30s]
      --silence-time TIME   so long may nothing come [default: 60s]

Passwords go into the URL, http://USER:PASSWORD@HOST/. A redirect to a host that no argument mentions
needs nethost's --allow-connect; it is sent no Authorization and no Cookie.

Exit codes, curl's where it has one: 0 well; 2 called wrongly; 3 a redirect to no URL; 6 no such name; 7 no
connection; 8 not HTTP; 18 the response ends too early; 22 the status is 400 or more (its body is written); 23 the
output, 26 the input failed; 28 too slow; 35 TLS failed; 47 too many redirects; 56 the connection was lost; 61 not
what its Content-Encoding says; 65 a redirect wants standard input again; 1 anything else.
";

/// A status of 400 or more.
const STATUS: ExitCode = ExitCode(22);

const USER_AGENT: &str = concat!("nethost-http/", env!("CARGO_PKG_VERSION"));

/// What a form sends, and curl's `-d` too.
const FORM: &str = "application/x-www-form-urlencoded";

const VALUED: [&str; 9] = [
    "output",
    "request",
    "header",
    "data",
    "proxy",
    "max-redirects",
    "max-time",
    "connect-time",
    "silence-time",
];

/// Bytes of one read of a file: 64 KiB.
const READ: u32 = 64 << 10;
