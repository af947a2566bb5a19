package AuthDouble::UserJson;
# The user object as GoTrue serialises it: order, presence, time formats.
use strict;
use warnings;
use Exporter 'import';
use POSIX qw(strftime);
use Time::HiRes ();
use AuthDouble::Json qw(obj bool);

our @EXPORT_OK = qw(user_json now rfc3339);

# a point in time: [seconds, nanoseconds]
sub now {
    my $t = Time::HiRes::time();
    return [int $t, int(($t - int $t) * 1e6) * 1000
        + 1 + int rand 999];
}

# 0-9 fraction digits, trailing zeros cut; the database keeps microseconds
sub rfc3339 {
    my ($t, $ns) = @_;
    return $t if !ref $t;
    my $f = sprintf '%09d', $t->[1];
    $f = substr $f, 0, 6 if !$ns;
    $f =~ s/0+\z//;
    return strftime('%Y-%m-%dT%H:%M:%S', gmtime $t->[0])
        . ($f eq '' ? '' : ".$f") . 'Z';
}

# user_json($user, %opt)
# fresh => {field => 1}: times that are still in memory, with nanoseconds
# fresh_identity, no_confirmed_at, stripped (identities [], metadata {}), list
# (identities null, no factors)
sub user_json {
    my ($u, %opt) = @_;
    my $fresh = $opt{fresh} || {};
    my $time = sub {
        return map { defined $u->{$_} ? ($_ => rfc3339($u->{$_}, $fresh->{$_}))
            : () } @_;
    };
    my ($confirmed) = $opt{no_confirmed_at} ? ()
        : sort { _cmp($a, $b) } grep {defined}
        @$u{qw(email_confirmed_at phone_confirmed_at)};
    return obj(
        id => $u->{id}, aud => $u->{aud}, role => $u->{role},
        email => $u->{email}, $time->('email_confirmed_at', 'invited_at'),
        phone => $u->{phone},
        $time->('phone_confirmed_at', 'confirmation_sent_at'),
        ($confirmed ? (confirmed_at => rfc3339($confirmed)) : ()),
        $time->('recovery_sent_at'),
        (map { defined $u->{$_} ? ($_ => $u->{$_}) : () } 'new_email'),
        $time->('email_change_sent_at'),
        (map { defined $u->{$_} ? ($_ => $u->{$_}) : () } 'new_phone'),
        $time->('phone_change_sent_at', 'reauthentication_sent_at',
            'last_sign_in_at'),
        app_metadata => $u->{app_metadata},
        user_metadata => $opt{stripped} ? {} : $u->{user_metadata},
        (!$opt{list} && @{$u->{factors} || []}
            ? (factors => [map { _factor($_) } @{$u->{factors}}]) : ()),
        identities => $opt{list} ? undef : $opt{stripped} ? []
            : [map { _identity($_, $opt{fresh_identity}) } @{$u->{identities}}],
        created_at => rfc3339($u->{created_at}, $fresh->{created_at}),
        updated_at => rfc3339($u->{updated_at}, $fresh->{updated_at}),
        $time->('banned_until', 'deleted_at'),
        is_anonymous => bool($u->{is_anonymous}),
    );
}

sub _cmp {
    my ($x, $y) = map { ref $_ ? rfc3339($_, 1) : $_ } @_;
    return $x cmp $y;
}

my @FACTOR = qw(id created_at updated_at status friendly_name factor_type phone
    last_challenged_at);

sub _factor {
    my ($f) = @_;
    return obj(map { exists $f->{$_} ? ($_ => $f->{$_}) : () } @FACTOR);
}

sub _identity {
    my ($i, $fresh) = @_;
    return obj(
        identity_id => $i->{identity_id}, id => $i->{id},
        user_id => $i->{user_id}, ($i->{identity_data}
            ? (identity_data => $i->{identity_data}) : ()),
        provider => $i->{provider},
        last_sign_in_at => rfc3339($i->{last_sign_in_at}, $fresh),
        created_at => rfc3339($i->{created_at}),
        updated_at => rfc3339($i->{updated_at}),
        (defined $i->{email} ? (email => $i->{email}) : ()),
    );
}

1;
