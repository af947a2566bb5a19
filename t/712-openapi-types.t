# The command of docs/routes.md makes types of docs/openapi.yaml with which a
# client can be written. t/openapi/install fetches the packages where npm is.

use UserSync::OpenAPI;
use UserSync::Test;
use UserSync::Util qw(top_dir);

my ($status, $said) = run_command('sh', '-c', 'command -v npm');
plan skip_all => 'npm is not on this machine: no types are made'
    if $status != 0;
my $bin = node_tools();
ok $bin, 'the packages of npm are here'
    or diag "run t/openapi/install\n", tool_failure('node') || '';

my ($command) = slurp(top_dir() . '/docs/routes.md')
    =~ /^(npx openapi-typescript\@.*)$/m;
my ($major) = slurp(top_dir() . '/t/openapi/package.json')
    =~ /"openapi-typescript": "(\d+)\./;
like $command, qr/^npx openapi-typescript\@$major docs/,
    'docs/routes.md has the version that is tried here';

SKIP: {
    skip 'no packages' unless $bin;
    my $dir = UserSync::Util::new_dir('types');
    $command =~ s{^npx (openapi-typescript)\@\d+}{'$bin/$1'};
    $command =~ s{-o }{-o $dir/};
    ($status, $said) = run_command('sh', '-c',
        "cd '@{[top_dir()]}' && $command");
    is $status, 0, 'the command makes types' or diag $said;
    my $types = slurp("$dir/usersync.d.ts") || '';
    like $types, qr/^export interface components/m, 'with names';
    spew("$dir/client.ts", slurp(top_dir() . '/t/openapi/client.ts'));
    ($status, $said) = run_command("$bin/tsc", '--strict', '--noEmit',
        '--target', 'es2022', '--module', 'nodenext', '--moduleResolution',
        'nodenext', '--skipLibCheck', 'false', "$dir/client.ts");
    is $status, 0, 'a client uses them' or diag $said;
}

done_testing;
