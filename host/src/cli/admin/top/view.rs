//! What `top` shows: two looks, compared.

use std::{cmp::Reverse, collections::HashMap};

use clap::ValueEnum;
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Cell, Paragraph, Row, Table},
};
use serde::Serialize;
use tokio::time::Instant;

use super::super::{
    counted, ps,
    table::{self, Align, age, bytes, count, nanoseconds, plain, size},
};
use crate::{
    admin::api::{Service, Services, State},
    metrics::spread::quantile,
};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Column {
    /// The service's name
    Service,
    /// Its state
    State,
    /// The plugin's version
    Version,
    /// Open connections
    Conn,
    /// Bytes received a second
    In,
    /// Bytes sent a second
    Out,
    /// Calls into the plugin a second
    Calls,
    /// The median of the calls' times
    P50,
    /// What 99 of 100 calls do not exceed
    P99,
    /// Linear memory of all instances
    Mem,
    /// Instances that broke
    Traps,
}

/// A service, and what it did in the last interval.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    service: Service,
    /// Each a second; none at the first look.
    #[serde(rename = "received_per_second")]
    received: Option<u64>,
    #[serde(rename = "sent_per_second")]
    sent: Option<u64>,
    #[serde(rename = "calls_per_second")]
    calls: Option<u64>,
    /// Of the calls since the look before.
    #[serde(rename = "p50_ns")]
    p50: Option<u64>,
    #[serde(rename = "p99_ns")]
    p99: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As one reads it: names from A, numbers from the highest.
    Usual,
    Reversed,
}

/// What is shown.
pub(super) struct View {
    entries: Vec<Entry>,
    uptime: f64,
    taken: Option<Instant>,
    column: Column,
    order: Order,
    /// Why there is nothing new.
    lost: Option<String>,
}

impl View {
    pub(super) fn new(column: Column) -> Self {
        Self {
            entries: Vec::new(),
            uptime: 0.0,
            taken: None,
            column,
            order: Order::Usual,
            lost: None,
        }
    }

    /// Takes in what the host said, and compares it with what it said before.
    pub(super) fn take(&mut self, now: Services, at: Instant) {
        // Of another process nothing is compared.
        let is_same_host = now.uptime >= self.uptime;
        let before: HashMap<_, _> = self
            .entries
            .drain(..)
            .filter(|_| is_same_host)
            .map(|entry| (entry.service.name.clone(), entry.service))
            .collect();
        let seconds = self
            .taken
            .map(|taken| at.duration_since(taken).as_secs_f64());
        let entries = now.services.into_iter().map(|service| {
            let before = before.get(&service.name).zip(seconds);
            Entry::new(service, before)
        });
        self.entries = entries.collect();
        (self.uptime, self.taken, self.lost) = (now.uptime, Some(at), None);
        self.sort();
    }

    /// The host does not answer; what it said last stays.
    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    pub(super) fn sort_by_next(&mut self) {
        self.sort_by_neighbour(1);
    }

    pub(super) fn sort_by_previous(&mut self) {
        self.sort_by_neighbour(COLUMNS.len() - 1);
    }

    fn sort_by_neighbour(&mut self, steps: usize) {
        let mut columns = COLUMNS.iter().cycle();
        let here = columns.find(|(column, ..)| *column == self.column);
        if let Some((column, ..)) = here.and_then(|_| columns.nth(steps - 1)) {
            self.column = *column;
        }
        self.sort();
    }

    pub(super) fn reverse(&mut self) {
        self.order = match self.order {
            Order::Usual => Order::Reversed,
            Order::Reversed => Order::Usual,
        };
        self.sort();
    }

    fn sort(&mut self) {
        let column = self.column;
        self.entries
            .sort_by(|one, other| one.service.name.cmp(&other.service.name));
        match column {
            Column::Service => {}
            Column::State | Column::Version => self.entries.sort_by_key(|it| it.cell(column)),
            _ => self.entries.sort_by_key(|it| Reverse(it.number(column))),
        }
        if self.order == Order::Reversed {
            self.entries.reverse();
        }
    }

    fn summary(&self) -> String {
        let sum = |number: fn(&Entry) -> u64| -> u64 { self.entries.iter().map(number).sum() };
        let connections = self.entries.iter().map(|it| it.service.connections).sum();
        format!(
            "nethost up {}, {}, {}, {}/s in, {}/s out, {} calls/s",
            age(self.uptime),
            counted(self.entries.len(), "service"),
            counted(connections, "connection"),
            bytes(sum(|it| it.number(Column::In))),
            bytes(sum(|it| it.number(Column::Out))),
            count(sum(|it| it.number(Column::Calls))),
        )
    }

    /// Draws a frame. What does not fit is left out at the right and at the bottom.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let rows = [
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ];
        let [top, middle, bottom] = Layout::vertical(rows).areas(area);
        let summary = match &self.lost {
            None => Line::from(self.summary()),
            Some(why) => Line::styled(plain(why), Style::new().fg(Color::Red)),
        };
        frame.render_widget(summary, top);
        let header = COLUMNS.iter().map(|(column, name, align, _)| {
            let style = if *column == self.column {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            } else {
                Style::new()
            };
            Cell::from(aligned(name, *align)).style(style)
        });
        let header = Row::new(header).style(Style::new().add_modifier(Modifier::REVERSED));
        let rows = self.entries.iter().map(|entry| {
            let cells = COLUMNS.iter().map(|(column, _, align, _)| {
                let cell = entry.cell(*column);
                Cell::from(aligned(&cell, *align))
            });
            Row::new(cells).style(entry.style())
        });
        let widths = COLUMNS.iter().map(|(.., width)| *width);
        let table = Table::new(rows, widths).header(header).column_spacing(1);
        frame.render_widget(table, middle);
        let hidden = self
            .entries
            .len()
            .saturating_sub(usize::from(middle.height.saturating_sub(1)));
        let more = match hidden {
            0 => String::new(),
            hidden => format!("{hidden} more below; "),
        };
        let keys = format!("{more}q quit  s/< > sort  r reverse  space look");
        let dim = Style::new().add_modifier(Modifier::DIM);
        frame.render_widget(Paragraph::new(keys).style(dim), bottom);
    }

    /// Writes the table for a script: a line for each service, under a header.
    pub(super) fn text(&self) -> String {
        let columns: Vec<_> = COLUMNS
            .iter()
            .map(|(_, name, align, _)| (*name, *align))
            .collect();
        let rows = self.entries.iter().map(|entry| {
            let cells = COLUMNS.iter().map(|(column, ..)| entry.cell(*column));
            cells.collect()
        });
        let rows: Vec<_> = rows.collect();
        self.summary() + "\n" + &table::written(&columns, &rows, None)
    }

    /// Writes what the last look found as one line of JSON.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Told {
            services: &self.entries,
            uptime: self.uptime,
        })
    }
}

/// What a program is told of a look.
#[derive(Serialize)]
struct Told<'a> {
    services: &'a [Entry],
    uptime: f64,
}

impl Entry {
    fn new(service: Service, before: Option<(&Service, f64)>) -> Self {
        let rate = |now: u64, then: fn(&Service) -> u64| {
            let (before, seconds) = before?;
            // A service that was stopped and started counts from the start.
            let more = now.saturating_sub(then(before));
            Some(per_second(more, seconds))
        };
        let times = before.map(|(before, _)| newer(&service.call_times, &before.call_times));
        let quantile = |share| quantile(times.as_deref()?, share);
        Self {
            received: rate(service.received, |it| it.received),
            sent: rate(service.sent, |it| it.sent),
            calls: rate(service.calls, |it| it.calls),
            p50: quantile(0.5),
            p99: quantile(0.99),
            service,
        }
    }

    fn cell(&self, column: Column) -> String {
        let rate = |rate: Option<u64>, written: fn(u64) -> String| {
            rate.map_or_else(|| "-".to_owned(), written)
        };
        match column {
            Column::Service => plain(&self.service.name),
            Column::State => ps::state(self.service.state).to_owned(),
            Column::Version => ps::version(&self.service),
            Column::Conn => self.service.connections.to_string(),
            Column::In => rate(self.received, size),
            Column::Out => rate(self.sent, size),
            Column::Calls => rate(self.calls, count),
            Column::P50 => nanoseconds(self.p50),
            Column::P99 => nanoseconds(self.p99),
            Column::Mem => size(self.number(column)),
            Column::Traps => self.service.traps.to_string(),
        }
    }

    fn number(&self, column: Column) -> u64 {
        let size = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        match column {
            Column::Service | Column::State | Column::Version => 0,
            Column::Conn => size(self.service.connections),
            Column::In => self.received.unwrap_or(0),
            Column::Out => self.sent.unwrap_or(0),
            Column::Calls => self.calls.unwrap_or(0),
            Column::P50 => self.p50.unwrap_or(0),
            Column::P99 => self.p99.unwrap_or(0),
            Column::Mem => size(self.service.memory),
            Column::Traps => self.service.traps,
        }
    }

    fn style(&self) -> Style {
        match self.service.state {
            State::Serving => Style::new(),
            State::Degraded => Style::new().fg(Color::Red),
            State::Swapping | State::Draining => Style::new().fg(Color::Yellow),
            State::Stopped => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

/// Returns what was counted since; where it went back, all of it.
fn newer(now: &[(u64, u64)], before: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let before: HashMap<_, _> = before.iter().copied().collect();
    let since = now.iter().map(|(time, count)| {
        let then = before.get(time).copied().unwrap_or(0);
        (*time, count.saturating_sub(then))
    });
    since.filter(|(_, count)| *count > 0).collect()
}

fn per_second(count: u64, seconds: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people: two digits are shown"
    )]
    let rate = (count as f64 / seconds.max(1e-3)).round() as u64;
    rate
}

fn aligned(text: &str, align: Align) -> Text<'static> {
    let text = Text::from(text.to_owned());
    match align {
        Align::Left => text.left_aligned(),
        Align::Right => text.right_aligned(),
    }
}

/// With their names, and as wide as they need: 79 in all with the space between, so that they fit 80.
const COLUMNS: &[(Column, &str, Align, Constraint)] = &[
    (Column::Service, "SERVICE", Align::Left, Constraint::Min(8)),
    (Column::State, "STATE", Align::Left, Constraint::Length(8)),
    (Column::Version, "VERS", Align::Left, Constraint::Length(6)),
    (Column::Conn, "CONN", Align::Right, Constraint::Length(5)),
    (Column::In, "IN/s", Align::Right, Constraint::Length(6)),
    (Column::Out, "OUT/s", Align::Right, Constraint::Length(6)),
    (Column::Calls, "CALL/s", Align::Right, Constraint::Length(6)),
    (Column::P50, "P50", Align::Right, Constraint::Length(7)),
    (Column::P99, "P99", Align::Right, Constraint::Length(7)),
    (Column::Mem, "MEM", Align::Right, Constraint::Length(6)),
    (Column::Traps, "TRAP", Align::Right, Constraint::Length(4)),
];
