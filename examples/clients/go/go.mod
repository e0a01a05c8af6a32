module example.com/secretwatch-client

go 1.19
