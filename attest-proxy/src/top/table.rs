//! Tables that fit a terminal.
//!
//! Owns: which columns there is room for, how wide each is, and that nothing in a cell does anything to a terminal. Pure.

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    width: usize,
    /// The higher, the sooner it is left out; the first column never is, and takes the room that is left.
    rank: u8,
    is_number: bool,
}

impl Column {
    /// Of words, from the left.
    pub(super) const fn text(title: &'static str, width: usize, rank: u8) -> Self {
        Self {
            title,
            width,
            rank,
            is_number: false,
        }
    }

    /// Of numbers, from the right.
    pub(super) const fn number(title: &'static str, width: usize, rank: u8) -> Self {
        Self {
            is_number: true,
            ..Self::text(title, width, rank)
        }
    }
}

/// The widest that a first column grows.
const WIDEST: usize = 48;

/// A heading and its rows, in as many columns as there is room for.
pub(super) fn table(
    columns: &[Column],
    rows: impl Iterator<Item = Vec<String>>,
    width: usize,
) -> Vec<String> {
    let mut shown: Vec<(usize, Column)> = columns.iter().copied().enumerate().collect();
    let total = |shown: &[(usize, Column)]| {
        shown
            .iter()
            .map(|(_, c)| c.width.saturating_add(1))
            .sum::<usize>()
    };
    while total(&shown) > width.saturating_add(1) && shown.len() > 1 {
        let Some(last) = shown.iter().skip(1).map(|(_, column)| column.rank).max() else {
            break;
        };
        let out = shown
            .iter()
            .rposition(|(at, column)| *at > 0 && column.rank == last);
        match out {
            Some(at) => drop(shown.remove(at)),
            None => break,
        }
    }
    let spare = width.saturating_add(1).saturating_sub(total(&shown));
    if let Some((_, first)) = shown.first_mut() {
        first.width = first.width.saturating_add(spare).min(WIDEST.max(first.width));
    }
    let line = |cell: &dyn Fn(usize, &Column) -> String| {
        let cells = shown.iter().map(|(at, column)| {
            let text = clip(&cell(*at, column), column.width);
            if column.is_number {
                format!("{text:>0$}", column.width)
            } else {
                format!("{text:<0$}", column.width)
            }
        });
        cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let mut lines = vec![line(&|_, column| column.title.to_owned())];
    for row in rows {
        lines.push(line(&|at, _| row.get(at).cloned().unwrap_or_default()));
    }
    lines
}

/// At most so many characters, none of which does anything to a terminal.
pub(super) fn clip(text: &str, most: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(most)
        .collect()
}

/// A number in at most six characters: `9999`, `10.0k`, `1.2M`.
pub(super) fn short(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let units = [
        ("k", 1_000_u64),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let unit = units.iter().rev().find(|(_, unit)| number >= *unit);
    let (name, unit) = unit.copied().unwrap_or(("k", 1_000));
    format!("{}.{}{name}", number / unit, number % unit / (unit / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_say_least_go_first_and_the_first_grows() {
        let columns = [
            Column::text("NAME", 6, 0),
            Column::number("A", 4, 2),
            Column::number("B", 4, 1),
        ];
        let draw = |width| {
            table(
                &columns,
                [vec!["kiosk-one".into(), "1".into(), "22".into()]].into_iter(),
                width,
            )
        };
        assert_eq!(draw(16), ["NAME      A    B", "kiosk-    1   22"]);
        assert_eq!(draw(19), ["NAME         A    B", "kiosk-one    1   22"]);
        assert_eq!(draw(11), ["NAME      B", "kiosk-   22"]);
        assert_eq!(draw(10), ["NAME", "kiosk-one"]);
        assert_eq!(draw(3).len(), 2);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (999_999, "999.9k"),
            (1_250_000, "1.2M"),
            (3_000_000_000, "3.0G"),
            (u64::MAX, "18446744.0T"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
