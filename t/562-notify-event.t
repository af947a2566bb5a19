# From auth.users to the row: what sql/supabase-notify.sql sends in the stand-in
# for a Supabase project is delivered to usersync-event as it stands, in any
# order, twice, or not at all.

use UserSync::Event;
use UserSync::Gate qw(new_id);
use UserSync::Project;
use UserSync::Test;

my $DB = project_db('usersync_project');
my $ROWS = event_db('usersync_notified',
    'ALTER TABLE users ADD COLUMN name text, ADD COLUMN plan text',
    'GRANT SELECT (name, plan), INSERT (name, plan), UPDATE (name, plan) ON '
        . 'users TO "www-data"');
my $httpd = event_server($ROWS, secret => $EVENT_SECRET, children => 1,
    config => "UserSyncColumn user_metadata.name name\n"
        . "UserSyncColumn app_metadata.plan plan\n")->start;

set_secret($DB, usersync_event_url => $EVENT_URL,
    usersync_event_secret => $EVENT_SECRET);
my ($status, $said) = project_file($DB, 'supabase-notify.sql');
is "$status: $said", '0: ', 'the triggers' or BAIL_OUT('no triggers');

sub deliver {
    my ($name, @messages) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    applied_ok replay($_, $httpd->url('/event')), "$name: $_->{json}{type}"
        for @messages;
    return;
}

# The row, its times by PostgreSQL's own reading.
sub row {
    my ($id) = @_;
    my ($row) = postgres()->sql($ROWS => <<'SQL', $id);
SELECT email, phone, is_anonymous, name, plan, banned_until::text,
       deleted_at IS NOT NULL AS deleted, updated_at::text
  FROM users WHERE id = ?
SQL
    return $row;
}

# A message's time, as the row has it.
sub since {
    my ($message) = @_;
    return postgres()->value($ROWS => 'SELECT ?::timestamptz::text',
        $message->{json}{updated_at});
}

my $id = add_user($DB, email => 'ada@example.com', phone => '49151',
    raw_user_meta_data => '{"name": "Ada <&> \u00d6"}',
    raw_app_meta_data => '{"plan": "free"}');
my @messages = messages($DB);
deliver('made', @messages);
is_deeply row($id), { email => 'ada@example.com', phone => '49151',
    is_anonymous => 0, name => "Ada <&> \x{d6}", plan => 'free',
    banned_until => undef, deleted => 0, updated_at => since($messages[0]) },
    'the row has all of it';

change_user($DB, $id, email => 'ada.l@example.com');
change_user($DB, $id, raw_app_meta_data => '{"plan": "gold"}');
change_user($DB, $id, banned_until => '2126-08-20 11:00:00.25+02');
@messages = messages($DB);
deliver('in the wrong order, and twice', reverse(@messages), @messages);
is_deeply row($id), { email => 'ada.l@example.com', phone => '49151',
    is_anonymous => 0, name => "Ada <&> \x{d6}", plan => 'gold',
    banned_until => '2126-08-20 09:00:00.25+00', deleted => 0,
    updated_at => since($messages[-1]) }, 'the newest state stays';

change_user($DB, $id, banned_until => 'infinity');
deliver('banned for ever', messages($DB));
is row($id)->{banned_until}, 'infinity', 'is a time, too';

# SQL by hand, which leaves updated_at as it is
auth_admin($DB)->do('UPDATE auth.users SET banned_until = NULL WHERE id = ?',
    undef, $id);
deliver('by hand', messages($DB));
is row($id)->{banned_until}, undef, 'counts as later';

change_user($DB, $id, deleted_at => '2026-11-30 00:00:00Z',
    email => 'HashOfTheAddress', phone => 'HashOfThePhone');
change_user($DB, $id, raw_user_meta_data => '{}');
deliver('deleted softly', messages($DB));
my $row = row($id);
is_deeply [@{$row}{qw(deleted email phone name)}],
    [1, 'ada.l@example.com', '49151', "Ada <&> \x{d6}"],
    'marks the row, and takes nothing from it';
deliver('an old message', $messages[-1]);
is row($id)->{deleted}, 1, 'wakes nobody';

my $other = add_user($DB);
my @made = messages($DB);
deliver('another user', @made);
auth_admin($DB)->do('DELETE FROM auth.users WHERE id = ?', undef, $other);
deliver('deleted for good', messages($DB), @made);
is_deeply [@{ row($other) }{qw(deleted email)}],
    [1, "$other\@example.com"], 'marks the row';

my $large = add_user($DB, raw_user_meta_data => '{"name": "L", "picture": "'
    . 'x' x 300_000 . '"}');
deliver('much metadata', messages($DB));
is row($large)->{name}, 'L', 'arrives without its large values';

my ($forged) = @made;
$forged->{body} =~ s/"INSERT"/"DELETE"/;
is replay($forged, $httpd->url('/event'))->{status}, 401,
    'a message that was changed is refused';
$httpd->expect_log(qr/invalid_signature/);

done_testing;
