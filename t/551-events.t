# Events in any order leave the state that Supabase has, and a row that is
# later never yields to what is earlier.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $GUARDED = guarded('/app', 'UserSyncEnsure On');
my $DB = event_db('usersync_events',
    'CREATE UNIQUE INDEX users_email ON users (email)',
    'ALTER TABLE users ADD COLUMN nick text',
    'GRANT INSERT (nick), UPDATE (nick) ON users TO "www-data"');
my %httpd;

# The server with this UserSyncOnDelete.
sub server_for {
    my ($rule) = @_;
    return $httpd{$rule} ||= do {
        my $new = event_server($DB, children => 1, modules => ['authn_anon'],
            config => "UserSyncOnDelete $rule\n"
                . "UserSyncColumn user_metadata.nick nick\n$GUARDED");
        mkdir $new->dir . '/htdocs/app';
        UserSync::Util::spew($new->dir . '/htdocs/app/file', "file\n");
        $new->start;
    };
}

# "alive ada@... nick", "banned", "deleted" or "none": what the table says.
sub state_of {
    my ($id) = @_;
    my ($state) = postgres->value($DB, <<'SQL', $id, $id);
SELECT COALESCE((SELECT CASE WHEN deleted_at IS NOT NULL THEN 'deleted'
    WHEN banned_until > now() THEN 'banned' ELSE 'alive' END || ' '
    || COALESCE(email, '-') || ' ' || COALESCE(nick, '-')
    FROM users WHERE id = ?),
    CASE WHEN EXISTS (SELECT 1 FROM users_deleted WHERE id = ?)
    THEN 'tombstone' ELSE 'none' END)
SQL
    return $state;
}

# May they enter?  A user without a row would get one here.
sub gate_says {
    my ($httpd, $id) = @_;
    my $response = visit($httpd, '/app/file', $id);
    return join ' ', $response->{status},
        ref $response->{json} eq 'HASH' ? $response->{json}{code} || () : ();
}

sub permutations {
    my ($first, @rest) = @_;
    return [] unless defined $first;
    return map {
        my @all = @$_;
        map { [@all[0 .. $_ - 1], $first, @all[$_ .. $#all]] } 0 .. @all;
    } permutations(@rest);
}

postgres->sql($DB, $_) for 'CREATE TABLE users_deleted (id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL, updated_at timestamptz)',
    'GRANT SELECT, INSERT, UPDATE, DELETE ON users_deleted TO "www-data"',
    'GRANT DELETE ON users TO "www-data"';

# A life is a list of events, each as members of a message; the last one is
# what Supabase has. Expected: the table's state and the gate's answer for
# Mark, Delete and Keep.
my %soft = (deleted_at => 'now', email => 'hash', phone => 'hash');
my @lives = (
    ['a change of everything',
        [{ type => 'INSERT', email => 'A' }, { email => 'B', nick => 'n' },
            { email => 'C', nick => 'm' }],
        (['alive C m', '200']) x 3],
    ['banned',
        [{ type => 'INSERT', email => 'A' }, { email => 'B', nick => 'n' },
            { email => 'B', nick => 'n', banned => 1 }],
        (['banned B n', '403 user_banned']) x 3],
    ['banned and let in again',
        [{ type => 'INSERT', email => 'A' }, { email => 'A', banned => 1 },
            { email => 'A', banned => 1, nick => 'n' },
            { email => 'A', nick => 'n' }],
        (['alive A n', '200']) x 3],
    ['softly deleted',
        [{ type => 'INSERT', email => 'A' }, { email => 'A', nick => 'n' },
            {%soft}],
        [qr/^deleted (?:A|-) (?:n|-)$/, '401 user_deleted'],
        ['tombstone', '401 user_deleted'],
        ['alive A n', '200']],
    ['deleted',
        [{ type => 'INSERT', email => 'A' }, { email => 'A', nick => 'n' },
            { email => 'B', banned => 1 }, { type => 'DELETE', email => 'B' }],
        [qr/^deleted /, '401 user_deleted'],
        ['tombstone', '401 user_deleted'],
        ['banned B -', '403 user_banned']],
    ['softly, then for good',
        [{ type => 'INSERT', email => 'A' }, {%soft},
            { type => 'DELETE', %soft }],
        [qr/^deleted /, '401 user_deleted'],
        ['tombstone', '401 user_deleted'],
        ['alive A -', '200']],
    ['softly deleted and restored',
        [{ type => 'INSERT', email => 'A' }, {%soft},
            { email => 'A', nick => 'n' }, { email => 'C', nick => 'n' }],
        (['alive C n', '200']) x 3],
    ['deleted, and made again with the same id',
        [{ type => 'INSERT', email => 'A' }, { type => 'DELETE', email => 'A' },
            { type => 'INSERT', email => 'B' }, { email => 'C' },
            { email => 'C', banned => 1 }],
        (['banned C -', '403 user_banned']) x 3],
);

# The events of one user in the order of their time.
sub messages {
    my ($id, $events) = @_;
    return map {
        my %event = %$_;
        my %address = map { $_ => "$_-$id\@example.com" } qw(A B C);
        my $now = time_stamp();
        my $nick = delete $event{nick};
        delete $event{banned} and $event{banned_until} = time_stamp(3600);
        $event{email} = $address{ $event{email} } || 'a1b2c3d4e5f6'
            if $event{email};
        $event{deleted_at} = $now if $event{deleted_at};
        event_body(id => $id, updated_at => $now, %event,
            $nick ? (user_metadata => { nick => $nick }) : ());
    } @$events;
}

sub same_state {
    my ($got, $wanted, $id, $name) = @_;
    $got =~ s/-\Q$id\E\@example.com//;
    return ref $wanted ? like($got, $wanted, $name) : is($got, $wanted, $name);
}

for my $life (@lives) {
    my ($name, $events, @ends) = @$life;
    subtest $name => sub {
        for my $rule (qw(Mark Delete Keep)) {
            my ($state, $answer) = @{ shift @ends };
            my $httpd = server_for($rule);
            my %seen;
            for my $order (permutations(0 .. $#$events)) {
                my $id = new_id();
                my @all = messages($id, $events);
                my @statuses = map { send_event($httpd, $_)->{status} }
                    @all[@$order, $order->[0]]; # and the first one twice
                my $text = join ' ', $rule, @$order;
                $seen{"@statuses"}++;
                same_state(state_of($id), $state, $id, $text);
                is gate_says($httpd, $id), $answer, "$text: the gate";
                unlike state_of($id), qr/a1b2c3d4e5f6/, "$text: no hash";
            }
            is_deeply [keys %seen], [join ' ', (204) x (1 + @$events)],
                "$rule: each event is answered 204";
        }
    };
}

# The unique index holds each address once; Supabase exchanges two in three
# steps.
subtest 'two users exchange their e-mails' => sub {
    my $httpd = server_for('Mark');
    for my $order (permutations(0 .. 4)) {
        my ($ada, $bob) = (new_id(), new_id());
        my %is = (A => "a-$ada\@example.com", B => "b-$bob\@example.com",
            T => "t-$ada\@example.com");
        my @all = map {
            event_body(id => $_->[0], type => $_->[2] || 'UPDATE',
                email => $is{ $_->[1] })
        } [$ada, 'A', 'INSERT'], [$bob, 'B', 'INSERT'], [$ada, 'T'],
            [$bob, 'A'], [$ada, 'B'];
        send_event($httpd, $all[$_]) for @$order;
        is_deeply [map { postgres->value($DB,
            'SELECT email FROM users WHERE id = ?', $_) } $ada, $bob],
            [@is{qw(B A)}], "order @$order";
    }
};

subtest 'an e-mail must be there' => sub {
    my $db = event_db('usersync_events_full',
        'ALTER TABLE users ALTER email SET NOT NULL',
        'CREATE UNIQUE INDEX ON users (email)');
    my $own = event_server($db)->start;
    my ($ada, $bob) = (new_id(), new_id());
    applied_ok send_event($own, { type => 'INSERT', id => $ada,
        email => 'ada@example.com' });
    applied_ok send_event($own, { type => 'INSERT', id => $bob,
        email => 'bob@example.com' });
    $own->expect_log(qr/another row has this e-mail and keeps it/);
    applied_ok send_event($own, { id => $ada, email => 'bob@example.com',
        phone => '4912345' }), 'an address that is taken';
    is_deeply [@{ row_of($ada, $db) }{qw(email phone)}],
        ['ada@example.com', '4912345'], 'the rest follows';
    $own->expect_log(qr/takes no row that marks this deleted user/);
    my $cyd = new_id();
    applied_ok send_event($own, { id => $cyd, deleted_at => time_stamp(),
        email => 'a1b2c3' }), 'the deletion of a user without a row';
    ok !has_row($cyd, $db), 'leaves none';
    $own->stop;
};

subtest 'a foreign key keeps the row' => sub {
    my $httpd = server_for('Delete');
    my ($id, $free) = (new_id(), new_id());
    postgres->sql($DB, 'CREATE TABLE bills (user_id uuid REFERENCES users)');
    for my $user ($id, $free) {
        applied_ok send_event($httpd, { type => 'INSERT', id => $user });
    }
    postgres->sql($DB, 'INSERT INTO bills VALUES (?)', $id);
    $httpd->expect_log(
        qr/Delete: the user's row stays .*bills_user_id_fkey.*CASCADE/);
    applied_ok send_event($httpd, { type => 'DELETE', id => $_ }) for $id, $free;
    like state_of($id), qr/^deleted /, 'marked';
    is state_of($free), 'tombstone', 'another one is deleted';
    is gate_says($httpd, $_), '401 user_deleted', 'kept out' for $id, $free;
};

subtest 'beside sign-ins' => sub {
    my $httpd = server_for('Mark');
    my $id = new_id();
    is gate_says($httpd, $id), '200', 'the gate makes a row';
    applied_ok send_event($httpd, { id => $id, banned_until => time_stamp(60) });
    is gate_says($httpd, $id), '403 user_banned', 'which an event changes';
    applied_ok send_event($httpd, { id => $id });
    is gate_says($httpd, $id), '200', 'and back';
};

$_->stop for values %httpd;
done_testing;
