package UserSync::Event;

# What the tests of events share: databases with the columns of a user's life,
# servers with an event door, and messages as sql/supabase-notify.sql and
# Supabase's Database Webhooks send them.
#
#   use UserSync::Test;
#   use UserSync::Event;
#
#   my $DB = event_db('app_events');
#   my $httpd = event_server($DB)->start;
#   my $id = new_id();
#   applied_ok send_event($httpd, { type => 'INSERT', id => $id });
#   applied_ok send_event($httpd, { type => 'UPDATE', id => $id,
#       banned_until => time_stamp(3600) });

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use POSIX qw(floor strftime);
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Gate qw(database new_id);
use UserSync::Hook qw($SECRET sign_hook);
use UserSync::Httpd ();
use UserSync::Tables qw(scratch_db);
use UserSync::Test qw(post show);
use UserSync::Util qw(spew);

our @EXPORT = qw(
    $HEADER $HEADER_VALUE $LIFE_LINES $SECRET applied_ok event_body event_db
    event_lines event_server life_sql new_id send_event stock_body time_stamp
);

# The header of stock Database Webhooks in these tests.
our $HEADER = 'X-Event-Key';
our $HEADER_VALUE = 'the.value.of.the.header.0123456789';

# All fields of a user's life have a column of their name.
our $LIFE_LINES = join '', map {"UserSyncColumn $_ $_\n"}
    qw(phone is_anonymous banned_until deleted_at updated_at);

my $JSON = JSON::PP->new->utf8->canonical->allow_nonref;
my $files = 0;
my $last = 0; # the time of the last message, in microseconds

# ---- databases and servers

# The statements that give the table users these columns.
sub life_sql {
    my @columns = (phone => 'text', is_anonymous => 'boolean',
        map { $_ => 'timestamptz' } qw(banned_until deleted_at updated_at));
    my @sql;
    while (my ($name, $type) = splice @columns, 0, 2) {
        push @sql, "ALTER TABLE users ADD COLUMN IF NOT EXISTS $name $type",
            "GRANT SELECT ($name), INSERT ($name), UPDATE ($name) ON users "
            . 'TO "www-data"';
    }
    return @sql;
}

# A scratch database with these columns; then runs the statements.
sub event_db {
    my ($name, @sql) = @_;
    return scratch_db($name, life_sql(), @sql);
}

# The lines of an event door.
sub event_lines {
    my ($path, @lines) = @_;
    return join "\n", qq{<Location "$path">}, '    SetHandler usersync-event',
        (map {"    $_"} @lines), "</Location>\n";
}

# A private httpd with that database, all columns of $LIFE_LINES and an event
# door at /event; config => further lines, secret => a value instead of $SECRET
# in a file ('' for none), columns => lines instead of $LIFE_LINES, else as for
# UserSync::Httpd->new.
sub event_server {
    my ($db, %arg) = @_;
    my $config  = delete $arg{config} || '';
    my $columns = delete $arg{columns};
    my $secret  = delete $arg{secret};
    $secret = $SECRET unless defined $secret;
    my $line = '';
    if ($secret ne '') {
        my $file = spew("$ENV{USERSYNC_RUN}/event.$$." . ++$files . '.secret',
            "$secret\n");
        chmod 0600, $file;
        $line = "UserSyncHookSecret file:$file\n";
    }
    UserSync::Gate::has_rows_in($db);
    return UserSync::Httpd->new(%arg,
        config => database($db) . $line
            . (defined $columns ? $columns : $LIFE_LINES)
            . event_lines('/event') . $config);
}

# ---- messages

# A time stamp as PostgreSQL writes it into JSON: that many seconds from now.
# Each is later than the ones before with the same offset.
sub time_stamp {
    my ($offset) = @_;
    my $now = floor(time * 1_000_000);
    $last = $now > $last ? $now : $last + 1;
    my $at = $last + ($offset || 0) * 1_000_000;
    return strftime('%Y-%m-%dT%H:%M:%S', gmtime floor($at / 1_000_000))
        . sprintf '.%06d+00:00', $at % 1_000_000;
}

# The message of sql/supabase-notify.sql about a user; arguments replace
# members, and undef leaves null. A reference to a plain scalar is JSON text as
# it stands. Without a type it is an UPDATE, without a time the newest so far.
sub event_body {
    my (%member) = @_;
    my $type = delete $member{type};
    my $id = delete $member{id} || new_id();
    my $now = time_stamp();
    $type = 'UPDATE' unless defined $type;
    return _object(
        [type => $type, id => $id, email => "$id\@example.com", phone => undef,
            is_anonymous => \'false', app_metadata => \'{"provider":"email"}',
            user_metadata => {}, banned_until => undef,
            deleted_at => $type eq 'DELETE' ? $now : undef,
            updated_at => $now], \%member);
}

# What a stock Database Webhook on auth.users sends: {type, table, schema,
# record, old_record}. Arguments replace members of the record (of a DELETE:
# of the old one); table, schema and old_record are the message's own.
sub stock_body {
    my (%member) = @_;
    my $type = delete $member{type} || 'INSERT';
    my %own = map { exists $member{$_} ? ($_ => delete $member{$_}) : () }
        qw(table schema record old_record);
    my $record = \_object(_raw_row(delete $member{id} || new_id()), \%member);
    my $gone = $type eq 'DELETE';
    return _object(
        [type => $type, table => 'users', record => $gone ? undef : $record,
            schema => 'auth',
            old_record => $gone ? $record
                : $type eq 'UPDATE' ? \_object(_raw_row(new_id()), {})
                : undef], \%own);
}

# A row of auth.users, with the members that nobody else may see.
sub _raw_row {
    my ($id) = @_;
    return [id => $id, aud => 'authenticated', role => 'authenticated',
        email => "$id\@example.com", phone => undef,
        created_at => '2026-08-20T09:15:02.412907+00:00', deleted_at => undef,
        updated_at => time_stamp(), banned_until => undef,
        is_anonymous => \'false', recovery_token => 'pkce_RecoverTokenOfTests',
        encrypted_password => '$2a$10$EncryptedPasswordOfTests',
        raw_app_meta_data => \'{"provider":"email"}',
        raw_user_meta_data => {}];
}

sub _object {
    my ($pairs, $changes) = @_;
    my %change = %$changes;
    my @pairs = @$pairs;
    my @members;
    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @members, _member($name,
            exists $change{$name} ? delete $change{$name} : $value);
    }
    push @members, map { _member($_, $change{$_}) } sort keys %change;
    return '{' . join(',', @members) . '}';
}

sub _member {
    my ($name, $value) = @_;
    return $JSON->encode($name) . ':'
        . (ref $value eq 'SCALAR' ? $$value : $JSON->encode($value));
}

# ---- calls

# Sends an event to /event (or path => another): the members of a message for
# event_body, or a body. It is signed as sign_hook does, whose arguments may
# follow, unless unsigned => 1; headers => {...} replaces or adds some; vhost =>
# another server.
sub send_event {
    my ($httpd, $event, %arg) = @_;
    my $body = ref $event ? event_body(%$event) : $event;
    return post($httpd->url($arg{path} || '/event', $arg{vhost}), $body,
        $arg{unsigned} ? () : sign_hook($body, %arg),
        %{ $arg{headers} || {} });
}

# ---- checks

# Applied: 204 and nothing else.
sub applied_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::is_deeply(
        [@{$response}{qw(status body)}], [204, ''], $name || 'applied')
        || Test::More::diag(show($response));
}

1;
