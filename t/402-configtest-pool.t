# configtest refuses the sizes for which mod_dbd creates no pool, naming their
# lines, in the server whose users would wait in vain.

use UserSync::Test -keep;
use UserSync::Configtest;

my $check = UserSync::Configtest->new;

# Everything that a vhost needs, without using the module.
sub database { return 'DBDriver pgsql', 'DBDParams "dbname=app"' }

sub project {
    return 'UserSyncSupabaseURL https://x.co',
        'UserSyncSupabaseKey file:' . $check->key_file;
}

sub lines { return join '', map {"$_\n"} @_ }

# A configuration with these sizes in mod_dbd's lines.
sub sizes {
    my ($min, $keep, $max, @more) = @_;
    return $check->config(DBDMin => $min, DBDKeep => $keep, DBDMax => $max,
        @more);
}

# "DIRECTIVE VALUE (FILE:LINE)" or with mod_dbd's default.
sub size {
    my ($name, $value, $is_default) = @_;
    my $file  = $check->httpd->conf_file;
    my $where = $is_default ? qr/mod_dbd's default/ : qr/\Q$file\E:\d+/;
    return qr/\b$name $value \($where\)/;
}

subtest 'sizes of which mod_dbd makes no pool' => sub {
    my @cases = (
        ['DBDKeep above DBDMax', [0, 11, 10], size(DBDKeep => 11),
            size(DBDMax => 10)],
        ['DBDMin above DBDKeep', [5, 4, 10], size(DBDMin => 5),
            size(DBDKeep => 4)],
        ['DBDMin above both', [11, 4, 10], size(DBDMin => 11),
            size(DBDKeep => 4)],
        ['DBDMin above the default', [3, undef, undef], size(DBDMin => 3),
            size(DBDKeep => 2, 1)],
        ['the default of DBDMin', [undef, 0, 10], size(DBDMin => 1, 1),
            size(DBDKeep => 0)],
        ['DBDMax below the default', [0, undef, 1], size(DBDKeep => 2, 1),
            size(DBDMax => 1)],
        ['DBDKeep above the default', [0, 11, undef], size(DBDKeep => 11),
            size(DBDMax => 10, 1)],
        ['none', [0, 0, 0], size(DBDMax => 0)],
        ['in quotes', [0, '"11"', 10], size(DBDKeep => 11)],
        ['the last line counts', [0, "4\nDBDKeep 11", 10],
            size(DBDKeep => 11)],
    );
    for my $case (@cases) {
        my ($name, $sizes, @like) = @$case;
        $check->refused_ok(sizes(@$sizes), $name, qr/main server: DBD/, @like);
    }
    my ($keep) = $check->refused_ok(sizes(0, 11, 10), 'the line is named')
        =~ /DBDKeep 11 \(.*?:(\d+)\)/;
    my @lines = split /\n/, slurp($check->httpd->conf_file);
    is $lines[ ($keep || 0) - 1 ], 'DBDKeep 11', 'it is that line';

    $check->accepted_ok(sizes(@{ $_->[1] }), $_->[0]) for
        ['all the same', [2, 2, 2]], ['one', [0, 0, 1]],
        ['the defaults', [undef, undef, undef]],
        ['DBDMin as the default of DBDKeep', [2, undef, undef]],
        ['no pool at all', [0, 11, 10, DBDPersist => 'Off']],
        ['the last line counts', [0, "11\nDBDKeep 4", 10]];
    $check->accepted_ok("DBDMin 9\n" . lines(database), 'not used by us');
};

subtest 'sizes of which a vhost gets no pool' => sub {
    my $fine = $check->config;
    my @own = (project, $check->route);
    my %refused = (
        'DBDMax of its own' => [$fine, ['DBDMax 2'], size(DBDKeep => 4),
            size(DBDMax => 2)],
        'DBDMin of its own' => [$fine, [@own, 'DBDMin 5'],
            size(DBDMin => 5), size(DBDKeep => 4)],
        'a pool of its own' => [sizes(0, 11, 10, DBDPersist => 'Off'),
            ['DBDPersist On'], size(DBDKeep => 11), size(DBDMax => 10)],
        'those of a main server that has no use for them' =>
            [lines(database, 'DBDMin 3'), \@own, size(DBDMin => 3),
            size(DBDKeep => 2, 1)],
        'a gate' => [lines(database, 'UserSyncCache none'),
            ['UserSyncEnsure On', 'DBDMax 1'], size(DBDMax => 1)],
    );
    for my $name (sort keys %refused) {
        my ($main, $lines, @like) = @{ $refused{$name} };
        my $said = $check->refused_ok($main
            . $check->vhost('shop.example', @$lines), $name,
            qr/vhost shop\.example \(.*DBD/, @like);
        unlike $said, qr/main server: /, 'and no other server';
    }
    my $said = $check->refused_ok(sizes(0, 11, 10)
        . $check->vhost('shop.example', @own), 'a fault of the main server',
        qr/main server: DBDKeep/);
    unlike $said, qr/shop\.example/, 'is not laid at the door of its vhosts';
    $check->accepted_ok($fine . $check->vhost('shop.example', @$_), "@$_") for
        ['DBDMax 4'], ['DBDKeep 9', 'DBDMin 9'], ['DBDriver sqlite3',
            'DBDMax 1'], ['DBDPersist Off', 'DBDMax 1'];
};

done_testing;
