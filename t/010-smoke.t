# From end to end: a user registers, logs in, and has a row.

use UserSync::Test;

my ($email, $password) = ('ada@example.com', 'correct horse battery');
double->config(autoconfirm => JSON::PP::true);

my $registered = post('/auth/register',
    { email => $email, password => $password });
is $registered->{status}, 200, 'registered' or diag show($registered);
ok $registered->{json}{session}{access_token}, 'with a session';
user_row_ok $registered, $email, 'registering makes the row';

my $id = $registered->{json}{user_id};
postgres->sql(app => 'DELETE FROM users');
my $logged_in = post('/auth/login',
    { email => $email, password => $password });
is $logged_in->{status}, 200, 'logged in' or diag show($logged_in);
is $logged_in->{json}{user_id}, $id, 'as the same user';
user_row_ok $logged_in, $email, 'logging in makes a row that is missing';

my $again = post('/auth/login', { email => $email, password => $password });
is $again->{status}, 200, 'logged in again';
is postgres->value(app => 'SELECT count(*) FROM users'), 1, 'still one row';

my $wrong = post('/auth/login', { email => $email, password => 'guess' });
is $wrong->{status}, 401, 'a wrong password is refused';

my $tls = post('tls:/auth/login', { email => $email, password => $password });
is $tls->{status}, 200, 'the route is inherited by the TLS vhost'
    or diag show($tls);

done_testing;
