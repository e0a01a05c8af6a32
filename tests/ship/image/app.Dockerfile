# An app's own image, with secretwatch in it. The root file system is a busybox, as far as it goes.
FROM scratch
COPY rootfs /
COPY --from=localhost/secretwatch /secretwatch /usr/local/bin/secretwatch
ENV PATH=/bin:/usr/local/bin SECRETWATCH_VOLUME=db=/etc/db
USER 65534:65534
ENTRYPOINT ["secretwatch", "run", "--signal", "HUP", "--"]
CMD ["app"]
