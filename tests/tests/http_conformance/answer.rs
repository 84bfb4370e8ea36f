//! Answers, read apart from the server's own code.

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if it is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(it, _)| it.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        Some(&value.1)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What holds for every answer of an origin server.
    #[track_caller]
    pub(crate) fn check(&self, name: &str) {
        let date = self
            .header("Date")
            .unwrap_or_else(|| panic!("{name}: no Date"));
        let time = httpdate(date);
        assert!(time, "{name}: Date is {date}");
        match self.status {
            204 => assert!(
                self.header("Content-Length").is_none()
                    && self.header("Transfer-Encoding").is_none()
                    && self.header("Allow").is_some(),
                "{name}: {self:?}"
            ),
            405 => {
                let allow = self.header("Allow").unwrap_or_default();
                assert!(allow.contains("GET"), "{name}: {self:?}");
            }
            _ => {}
        }
        if !self.body.is_empty() {
            assert!(self.header("Content-Type").is_some(), "{name}: {self:?}");
        }
    }
}

/// Reads answers one after the other, to the end; `is_head` if it is one, and that to HEAD.
#[track_caller]
pub(crate) fn answers(mut data: &[u8], is_head: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !data.is_empty() {
        let text = String::from_utf8_lossy(data).into_owned();
        let end = data.windows(4).position(|it| it == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("a head without an end: {text}"));
        let head = std::str::from_utf8(&data[..end]).unwrap();
        let (line, lines) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..4));
        let status = status.unwrap_or_else(|| panic!("no status line: {line}"));
        let headers = lines.split("\r\n").filter(|line| !line.is_empty());
        let headers = headers.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        let mut answer = Answer {
            status: status.trim().parse().unwrap(),
            headers: headers.collect(),
            body: Vec::new(),
        };
        let rest = &data[end + 4..];
        let length = match answer.header("Content-Length") {
            _ if is_head || matches!(answer.status, 100..200 | 204 | 304) => 0,
            Some(length) => length.parse().unwrap(),
            None => panic!("no Content-Length: {text}"),
        };
        answer.body = rest[..length].to_vec();
        data = &rest[length..];
        answers.push(answer);
    }
    answers
}

/// Whether this is an `IMF-fixdate`: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn httpdate(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|it| match it {
            '0'..='9' => '0',
            'A'..='Z' => 'A',
            'a'..='z' => 'a',
            other => other,
        })
        .collect();
    shape == "Aaa, 00 Aaa 0000 00:00:00 AAA" && text.ends_with(" GMT")
}
