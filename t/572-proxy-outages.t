# Supabase's own clients while the users table cannot be asked, or refuses
# somebody, by every way to a session: what they are told, that nothing is used
# up at Supabase in vain, and that it heals.

use UserSync::Event;
use UserSync::Outage qw(own_postgres within);
use UserSync::Proxied;
use UserSync::Tables;
use UserSync::Test;
use UserSync::Ways;

use constant TIMEOUT => 1; # UserSyncStoreTimeout
use constant CONNECT_TIMEOUT => 2; # while mod_dbd connects

my $ways = UserSync::Ways->new(double());
my $pg = own_postgres();
my $db = $pg->dsn('app');

# One child, which then knows all that was found out.
sub server_of {
    my ($of, %arg) = @_;
    my $config = delete $arg{config} || '';
    return proxied_server($of, %arg, children => 1,
        mpm() eq 'prefork' ? () : (threads => 16),
        config => 'UserSyncStoreTimeout ' . TIMEOUT . "s\n"
            . "UserSyncCircuitBreaker Off\nUserSyncCache none\n$config");
}

sub exists_in {
    my ($id) = @_;
    return $pg->value(app => 'SELECT count(*) FROM users WHERE id = ?', $id);
}

# ---- checks

# What has reached Supabase since that was cleared.
sub forwarded { return map {"$_->{method} $_->{target}"} double->requests }

# The session of a try, and the row of its user.
sub session_ok {
    my ($response, $try, $name, $has) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $has ||= \&exists_in;
    my $id = holder_of($response);
    is_deeply [$response->{status}, $id && $has->($id),
            $try->{id} ? $id : undef], [$try->{status}, 1, $try->{id}],
        $name || "$try->{way}: a session and a row" or diag show($response);
}

# The page for a person who follows a link.
sub page_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $header = $response->{headers};
    is_deeply [$response->{status}, $header->{'content-type'},
            $header->{'retry-after'} ? 'wait' : 'final', $header->{location}],
        [503, 'text/html; charset=iso-8859-1', 'wait', undef], $name
        or diag show($response);
}

# Refused while the table cannot be asked: in time, and Supabase has heard
# nothing of it.
sub refused_before_ok {
    my ($httpd, $try) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    double->clear_requests;
    my $response = $ways->take($httpd, $try);
    is token_in($response), undef, "$try->{way}: no token";
    if ($try->{page}) { page_ok $response, "$try->{way}: a page" }
    else {
        withheld_ok $response, 503, 'store_unavailable',
            "$try->{way}: an error that is tried again";
    }
    is_deeply [forwarded()], [],
        "$try->{way}: is not forwarded";
    return $response;
}

# An error in place of an answer that came: the JSON, or a redirect with the
# error in its fragment.
sub withheld_way_ok {
    my ($response, $try, $status, $code) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return withheld_ok $response, $status, $code, "$try->{way}: $status $code"
        if !$try->{page};
    my $error = $status < 500 ? 'access_denied' : 'server_error';
    my $to = $response->{headers}{location} || '';
    my ($text) = $to =~ /&error_description=([\w+.%~-]+)&sb=\z/;
    my @left = grep {/^(?:sb-|set-cookie|content-type|retry-after)/}
        sort keys %{ $response->{headers} };
    is_deeply [$response->{status}, $to =~ s/&error_desc.*//r,
            $text ? 'text' : 'none', $response->{body}, "@left",
            token_in($response)],
        [$try->{status}, 'http://127.0.0.1:3000'
            . ($try->{way} eq 'saml' ? '/' : '')
            . "#error=$error&error_code=$code", 'text', '', '', undef],
        "$try->{way}: a redirect with $error, $code" or diag show($response);
}

# All lines of the module since the mark are about this, and there is one.
sub lines_ok {
    my ($httpd, $mark, $what, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @lines = our_lines($httpd, $mark);
    my @others = grep { $_ !~ /\[[\w-]+\] usersync-response: $what/ } @lines;
    $httpd->allow_log(qr/usersync-response: $what/);
    ok scalar(@lines), "$name: there is a line";
    return is_deeply \@others, [], "$name: and no other";
}

# Until a way that makes no account is refused without Supabase, too: it was
# found out that the table cannot be asked. That takes several users, as one
# row may be locked.
sub until_known {
    my ($httpd, @decoys) = @_;
    my @responses;
    wait_until {
        push @decoys, shift @decoys;
        double->clear_requests;
        push @responses, $ways->take($httpd, $decoys[0]);
        $responses[-1]{status} == 503 && !forwarded();
    } 30, 'it to be known';
    return @responses;
}

# ---- nobody can be given a row

sub lock_table {
    my $lock = $pg->connect('app');
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    return sub { $lock->rollback; $lock->disconnect };
}

sub rename_table {
    $pg->sql(app => 'ALTER TABLE users RENAME TO people');
    return sub { $pg->sql(app => 'ALTER TABLE people RENAME TO users') };
}

sub freeze {
    $pg->stop_backend($pg->backends('app'), $pg->pid);
    return sub { $pg->cont };
}

# What sets PostgreSQL back, returning what ends it; what the log says, with
# the cure.
my $LATE = 'PostgreSQL did not answer (?:several times )?within '
    . 'UserSyncStoreTimeout: (?:one request at a time finds out|a lock on the '
    . 'row, a frozen server or too many clients)';
my $AWAY = '(?:PostgreSQL has not let us connect for a while|'
    . 'no connection to PostgreSQL in time): see mod_dbd\'s lines, DBDParams '
    . 'and the PostgreSQL server|PostgreSQL is away: .*; see DBDParams and '
    . 'the PostgreSQL server';
my %TROUBLE = (
    away => [sub { $pg->stop; return sub { $pg->start } }, $AWAY],
    frozen => [\&freeze, "$LATE|$AWAY"],
    locked => [\&lock_table, $LATE],
    missing => [\&rename_table, 'table "public"."users" does not exist: apply '
        . 'the migrations or correct UserSyncTable'],
);

for my $trouble (sort keys %TROUBLE) {
    subtest "PostgreSQL or the table is $trouble" => sub {
        my ($begin, $what) = @{ $TROUBLE{$trouble} };
        my $httpd = server_of($db)->start;
        $httpd->allow_log(qr/\[dbd:error\]/);
        my @decoys = map { $ways->prepare('password') } 1 .. 3;
        session_ok $ways->take($httpd, $_), $_, 'at first' for @decoys;
        my @tries = map { $ways->prepare($_) } $ways->names;
        my $mark = $httpd->log->mark;
        my $end = $begin->();
        my @responses;
        for my $try (@tries) {
            push @responses, until_known($httpd, @decoys),
                refused_before_ok($httpd, $try);
        }
        within(TIMEOUT + CONNECT_TIMEOUT, 'in time', @responses);
        lines_ok $httpd, $mark, "store_unavailable.*: (?:$what)", 'the log';
        $end->();
        ok +(wait_until { $ways->take($httpd, $decoys[0])->{status} == 200
        } 15),
            'it heals';
        session_ok $ways->take($httpd, $_), $_,
            "$_->{way}: what was refused works now" for @tries;
        $httpd->stop;
    };
}

# ---- new users can be given no row, and others have theirs

sub read_only {
    my $is = 'default_transaction_read_only';
    $pg->sql(postgres => "ALTER DATABASE app SET $is = on");
    $pg->terminate_backends('app');
    return sub {
        $pg->sql(postgres => "ALTER DATABASE app RESET $is");
        $pg->terminate_backends('app');
    };
}

sub without_insert {
    $pg->sql(app => 'REVOKE INSERT ON users FROM "www-data"');
    return sub { $pg->sql(app => 'GRANT INSERT ON users TO "www-data"') };
}

my %PART = (
    'is read-only' => [\&read_only, 'PostgreSQL: cannot execute INSERT in a '
        . 'read-only transaction .*DBDParams must lead to the primary'],
    'takes no rows' => [\&without_insert,
        '.*no permission to fill column "id".*'],
);

for my $trouble (sort keys %PART) {
    subtest "the table $trouble" => sub {
        my ($begin, $what) = @{ $PART{$trouble} };
        my $httpd = server_of($db)->start;
        my $first = $ways->prepare('password');
        session_ok $ways->take($httpd, $first), $first, 'at first';
        my @tries = map { $ways->prepare($_) } $ways->names;
        my @known = map { $ways->prepare($_) }
            map { $_->{creates} ? () : $_->{way} } @tries;
        $pg->sql(app => 'INSERT INTO users VALUES (?, ?)', @$_{qw(id email)})
            for @known;
        my $mark = $httpd->log->mark;
        my $end = $begin->();
        until_refused($httpd);
        refused_before_ok($httpd, $_) for grep { $_->{creates} } @tries;
        session_ok $ways->take($httpd, $_), $_, "$_->{way}: a user with a row"
            for @known;
        for my $try (grep { !$_->{creates} } @tries) {
            withheld_way_ok $ways->take($httpd, $try), $try, 503,
                'store_unavailable';
        }
        lines_ok $httpd, $mark, "store_unavailable.*: $what", 'the log';
        $end->();
        ok +(wait_until { $ways->take($httpd, $first)->{status} == 200 } 15),
            'it heals';
        # whatever is refused after Supabase was asked can be asked for again,
        # but for codes of applications and second factors, which are of users
        # who have been here before
        for my $try (grep { $_->{creates} || !$_->{once} } @tries) {
            my $response;
            wait_until {
                $response = $ways->take($httpd, $try);
                $response->{status} != 503;
            } 10;
            session_ok $response, $try, "$try->{way}: works now";
        }
        $httpd->stop;
    };
}

# An account is made only if the table has taken a write within a second.
sub until_refused {
    my ($httpd) = @_;
    my $try = $ways->prepare('anonymous');
    wait_until { $ways->take($httpd, $try)->{status} == 503 } 10,
        'sign-ups to be refused';
    return;
}

# ---- late, and back again

subtest 'a row that another session is inserting' => sub {
    my $httpd = server_of($db)->start;
    my $other = $pg->connect('app');
    my $easy = $ways->prepare('password');
    session_ok $ways->take($httpd, $easy), $easy, 'at first';
    my $mark = $httpd->log->mark;
    my @responses;
    for my $way ($ways->names) {
        next if $way =~ /^(?:signup|anonymous)$/;
        my $try = $ways->prepare($way, known => 1);
        $other->begin_work;
        $other->do('INSERT INTO users VALUES (?, ?)', undef, $try->{id}, 'x');
        push @responses, $ways->take($httpd, $try);
        withheld_way_ok $responses[-1], $try, 503, 'store_unavailable';
        $other->rollback;
        session_ok $ways->take($httpd, $easy), $easy,
            "$way: others are served";
        next if $try->{once};
        session_ok $ways->take($httpd, $try), $try, "$way: and then they are";
    }
    within(TIMEOUT, 'in time', @responses);
    lines_ok $httpd, $mark, "store_unavailable.*: (?:$LATE)", 'the log';
    $other->disconnect;
    $httpd->stop;
};

subtest 'PostgreSQL is restarted' => sub {
    my $httpd = server_of($db)->start;
    my $first = $ways->prepare('password');
    for my $way ($ways->names) {
        session_ok $ways->take($httpd, $first), $first, 'a connection';
        my $try = $ways->prepare($way);
        $pg->restart('immediate');
        session_ok $ways->take($httpd, $try), $try, "$way: nobody notices";
    }
    $httpd->stop;
};

# ---- before it is known

subtest 'the first request after PostgreSQL has gone' => sub {
    my $httpd = server_of($db, config => "UserSyncCache shmcb\n")->start;
    $httpd->allow_log(qr/\[dbd:error\]/);
    my ($password, $refresh) = map { $ways->prepare($_) } qw(password refresh);
    my $mfa = $ways->prepare('mfa');
    my $known = { %$password, email => $mfa->{email}, id => $mfa->{id},
        body => { %{ $password->{body} }, email => $mfa->{email} } };
    session_ok $ways->take($httpd, $known), $known, 'somebody who is known';
    my $mark = $httpd->log->mark;
    $pg->stop;
    session_ok $ways->take($httpd, $mfa), $mfa,
        'a second factor of theirs is answered', sub { 1 };
    double->clear_requests;
    my $response = $ways->take($httpd, $refresh);
    withheld_ok $response, 503, 'store_unavailable',
        'a refresh of somebody else is withheld';
    is_deeply [forwarded()], ['POST /auth/v1/token?grant_type=refresh_token'],
        'after Supabase has answered';
    within(TIMEOUT + CONNECT_TIMEOUT, 'in time', $response);
    lines_ok $httpd, $mark, "store_unavailable.*: (?:$AWAY)", 'the log';
    $pg->start;
    wait_until {
        $response = $ways->take($httpd, $refresh);
        $response->{status} != 503;
    } 15, 'it to heal';
    session_ok $response, $refresh, 'the same refresh token goes on';
    $httpd->stop;
};

# ---- users who are refused

my $LIFE = event_db('usersync_proxylife');

# An event door beside it, so that its events count at once.
sub life_server {
    my $file = UserSync::Util::spew("$ENV{USERSYNC_RUN}/proxylife.secret",
        "$SECRET\n");
    chmod 0600, $file;
    return server_of($LIFE, config => $LIFE_LINES
        . "UserSyncHookSecret file:$file\n" . event_lines('/event'));
}

my $REFUSED = event_db('usersync_proxyrefused',
    q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''the application wants no such user''; END'},
    'CREATE TRIGGER refuse AFTER INSERT ON users FOR EACH ROW '
        . 'EXECUTE FUNCTION refuse()');
my $UNIQUE = event_db('usersync_proxyunique',
    'CREATE UNIQUE INDEX ON users (email)');

for my $case (
    [$REFUSED, 'user_row_refused', 'PostgreSQL: the application wants no such '
        . 'user'],
    [$UNIQUE, 'user_row_conflict', 'PostgreSQL: duplicate key value .*'
        . 'constraint users_email_idx']) {
    my ($of, $code, $what) = @$case;
    subtest $code => sub {
        my $httpd = server_of($of)->start;
        my $mark = $httpd->log->mark;
        for my $way ($ways->names) {
            my $try = $ways->prepare($way);
            next if $of eq $UNIQUE && !$try->{email};
            postgres->sql($of => 'INSERT INTO users VALUES (?, ?)', new_id(),
                $try->{email}) if $of eq $UNIQUE;
            my $response = $ways->take($httpd, $try);
            withheld_way_ok $response, $try, 503, $code;
            my ($outcome) = outcome($httpd);
            is $outcome, $code, "$way: the note";
        }
        lines_ok $httpd, $mark, "$code, user [0-9a-f-]{36}: $what", 'the log';
        $httpd->stop;
    };
}

# Who is banned or deleted according to a later state than that of the session.
my %GONE = (
    banned => [403, banned_until => sub { time_stamp(7200) }],
    deleted => [401, deleted_at => sub { time_stamp(3600) }],
);

subtest 'banned and deleted, as the row says or an event' => sub {
    my $httpd = life_server()->start;
    for my $word (sort keys %GONE) {
        my ($status, $column, $value) = @{ $GONE{$word} };
        for my $way ($ways->names) {
            next if $way =~ /^(?:signup|anonymous)$/;
            my $try = $ways->prepare($way, known => 1);
            postgres->sql($LIFE => "INSERT INTO users (id, $column, "
                . 'updated_at) VALUES (?, ?, ?)', $try->{id}, $value->(),
                time_stamp(3600));
            withheld_way_ok $ways->take($httpd, $try), $try, $status,
                "user_$word";
            is_deeply [outcome($httpd)], ["user_$word", $try->{id}],
                "$way: the notes";

            $try = $ways->prepare($way, known => 1);
            applied_ok send_event($httpd, { id => $try->{id},
                $column => $value->(), updated_at => time_stamp(3600) }),
                "$way: an event";
            withheld_way_ok $ways->take($httpd, $try), $try, $status,
                "user_$word";
        }
    }
    is_deeply [our_lines($httpd, 0)], [], 'nothing to do for anybody';
    $httpd->stop;
};

done_testing;
