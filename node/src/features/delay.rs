//! XEP-0203: Delayed Delivery, with the date and time of XEP-0082. *Pure.*

use crate::xmpp::{Element, Stanza, ns};

/// Stamps a stanza with the time at which it was sent or came, unless it has the stamp of `by` already.
pub(crate) fn stamp(stanza: &mut Stanza, by: &str, millis: u64) {
    let stamped = |child: &Element| child.is("delay", ns::DELAY) && child.get_attr("from") == Some(by);
    if !stanza.payload.iter().any(stamped) {
        let delay = Element::new("delay", ns::DELAY).attr("from", by).attr("stamp", datetime(millis));
        stanza.payload.push(delay);
    }
}

/// `CCYY-MM-DDThh:mm:ss.sssZ` of unix milliseconds (proleptic Gregorian calendar).
pub(crate) fn datetime(millis: u64) -> String {
    let of_day = millis % 86_400_000;
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{:03}Z", date(millis), of_day % 1_000)
}

/// `CCYY-MM-DD` of unix milliseconds: the day, UTC.
pub(crate) fn date(millis: u64) -> String {
    let (year, month, day) = civil(millis / 86_400_000);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month, day of a day counted from 1970-01-01, by 400-year cycles that begin on the first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::{date, datetime};

    #[test]
    fn known_dates() {
        assert_eq!(datetime(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(datetime(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(datetime(1_703_980_799_999), "2023-12-30T23:59:59.999Z");
        assert_eq!(date(1_703_980_799_999), "2023-12-30");
        assert_eq!(datetime(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
