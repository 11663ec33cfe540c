// A web server that answers every request with the version with which it was compiled. As the first process of a container
// it ignores SIGTERM, and thus answers until its pod's grace period ends.

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char started[] = "started " VERSION "\n";
static const char answer[] = "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" VERSION "\n";

int main(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_ANY)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0)
    return 1;
  if (write(STDOUT_FILENO, started, strlen(started)) < 0)
    return 2;
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    char request[4096];
    // A probe may close its connection without a request.
    if (read(connection, request, sizeof request) > 0)
      send(connection, answer, strlen(answer), MSG_NOSIGNAL);
    shutdown(connection, SHUT_WR);
    while (read(connection, request, sizeof request) > 0)
      ;
    close(connection);
  }
}
